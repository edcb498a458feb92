"""Several next tokens: each head is asked for its own, all learn, and what is kept is a model like any other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from toy import ARCH, BYTES, GPT, LLAMA, VOCABULARY, pretrained

from tlm.data.ragged import Ragged
from tlm.errors import UserError
from tlm.modeling.families.base import family_of
from tlm.modeling.loss import IGNORED_LABEL
from tlm.modeling.packing import pack
from tlm.study.architecture import Architecture
from tlm.study.config import PretrainConfig
from tlm.training.masking import next_token_inputs
from tlm.training.objectives.multi_token import MultiToken

LENGTH = 12
CONFIG = PretrainConfig(steps=1)
TEXTS = [[7, 8, 9], [], [10] * 30, [11]]


def language_model(arch: Architecture) -> Any:
    torch.manual_seed(0)
    family = family_of(arch)
    return family.language_model(family.configure(arch, VOCABULARY, LENGTH)).eval()


@pytest.mark.parametrize("cost", [-1, 0, 1_000])
def test_each_row_predicts_the_tokens_after_it_as_far_as_its_sequence_goes(cost: int) -> None:
    batch = pack(Ragged.from_lists(TEXTS), np.arange(4), VOCABULARY, LENGTH, cost)
    inputs = MultiToken(tokens=3).inputs(batch, VOCABULARY, CONFIG, seed=0, step=1)
    sequence_N = batch.layout.sequence_of()[inputs["queries"].rows_N]
    for place, item in enumerate(batch.order_B):
        whole = [VOCABULARY.cls, *TEXTS[item][: LENGTH - 2], VOCABULARY.sep, *[IGNORED_LABEL] * 2]
        expected = [whole[at + 1 : at + 4] for at in range(len(whole) - 3)]
        assert inputs["labels_NA"][sequence_N == place].tolist() == expected
    asked = int((inputs["labels_NA"] != IGNORED_LABEL).sum())
    lengths = [len(text[: LENGTH - 2]) + 2 for text in TEXTS]
    assert asked == sum(MultiToken(tokens=3).predicted_positions(CONFIG, length) for length in lengths)


def test_at_first_every_head_is_the_models_own_and_the_first_is_that_of_causal_modelling() -> None:
    model, objective = language_model(GPT), MultiToken(tokens=2)
    batch = pack(Ragged.from_lists(TEXTS), np.arange(4), VOCABULARY, LENGTH, 0)
    inputs = dict(objective.inputs(batch, VOCABULARY, CONFIG, seed=0, step=1))
    module = objective.trained_module(model).eval()
    causal = next_token_inputs(batch)
    labels_NA = inputs["labels_NA"]
    found = objective.heldout_sums(module, inputs)
    assert found["loss"][0].item() / found["loss"][1] == pytest.approx(model.loss(**causal).item(), rel=1e-5)
    first = module.loss(**{**inputs, "labels_NA": labels_NA[:, [0, 0]]})
    torch.testing.assert_close(first, model.loss(**causal))
    assert found["loss_2"][1] == (labels_NA[:, 1] != IGNORED_LABEL).sum() < found["loss"][1]


@pytest.mark.parametrize("arch", [GPT, pytest.param(LLAMA, marks=pytest.mark.slow)], ids=lambda arch: arch.name)
def test_all_heads_learn_and_the_model_is_kept_without_them(arch: Architecture) -> None:
    done = pretrained(arch=arch, steps=150, learning_rate=1e-2, objective={"kind": "multi_token", "tokens": 3})
    assert isinstance(done.model, family_of(arch).language_model)
    assert done.model.state_dict().keys() == language_model(arch).state_dict().keys()
    curve = done.curve.frame().groupby("name")["value"].apply(list)
    for name in ("", "_2", "_3"):
        assert curve[f"heldout_loss{name}"][-1] < 1.0 < curve[f"heldout_loss{name}"][0]
        assert curve[f"heldout_accuracy{name}"][-1] > 0.7
    assert done.facts["heldout_loss"] == curve["heldout_loss"][-1]


@pytest.mark.parametrize("arch", [ARCH, BYTES], ids=lambda arch: arch.name)
def test_a_family_that_is_no_decoder_of_tokens_is_refused(arch: Architecture) -> None:
    with pytest.raises(UserError, match=f"multi_token does not work with models of kind {arch.kind}.*Leave it out"):
        pretrained(arch=arch, objective="multi_token")
