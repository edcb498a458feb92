"""Replaced token detection: what is replaced, what is found, and what is kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import mini_study
from toy import ARCH, CONV, GPT, LLAMA, VOCABULARY, corpus, finetuned, pretrained, weights

from tlm.errors import UserError
from tlm.modeling.families.base import family_of
from tlm.modeling.interchange import save
from tlm.modeling.packing import pack
from tlm.planning.plan import plan
from tlm.study.architecture import Architecture
from tlm.study.config import PretrainConfig
from tlm.training.objectives.detection import drawn, generator_of
from tlm.training.objectives.replaced import Replaced

LENGTH = 12
CONFIG = PretrainConfig(steps=1, mlm_probability=0.4)


def test_tokens_are_drawn_by_the_generators_probabilities() -> None:
    p_V = torch.tensor([0.1, 0.0, 0.6, 0.3])
    chance_N = torch.arange(0, 1, 0.001)
    found_N = drawn(p_V.log().expand(len(chance_N), -1), chance_N)
    np.testing.assert_allclose(torch.bincount(found_N, minlength=4) / len(chance_N), p_V, atol=0.002)


@pytest.mark.parametrize("cost", [-1, 3])
def test_only_masked_tokens_are_replaced_and_what_is_drawn_as_it_was_is_none(cost: int) -> None:
    torch.manual_seed(0)
    family, objective = family_of(ARCH), Replaced(generator_share=0.5)
    module = objective.trained_module(family.language_model(family.configure(ARCH, VOCABULARY, LENGTH))).eval()
    batch = pack(corpus(20), np.arange(20), VOCABULARY, LENGTH, cost)
    inputs: dict[str, Any] = dict(objective.inputs(batch, VOCABULARY, CONFIG, seed=0, step=1))
    rows_N, labels_N = inputs["queries"].rows_N, inputs["labels_N"]
    assert (inputs["ids_R"][rows_N] == VOCABULARY.mask).all() and torch.equal(batch.ids_R[rows_N], labels_N)
    with torch.no_grad():
        generated_NV, logits_R, replaced_R = module.run(**inputs)
        rigged = torch.nn.functional.one_hot(labels_N, len(VOCABULARY)) * 1e4
        module.generator.logits = lambda *_: rigged.float()
        *_, none_R = module.run(**inputs)
    wrong_N = drawn(generated_NV, inputs["chance_N"]) != labels_N
    masked_R = torch.zeros_like(batch.layout.real_R).index_fill(0, rows_N[wrong_N], True)
    assert torch.equal(replaced_R, masked_R[batch.layout.real_R]) and replaced_R.any()
    assert len(logits_R) == batch.layout.real_R.sum() and not none_R.any()


def test_the_generator_is_a_narrow_encoder() -> None:
    config: Any = family_of(CONV).configure(CONV, VOCABULARY, LENGTH)
    narrow = generator_of(config, 0.5)
    sizes = (narrow.num_attention_heads, narrow.hidden_size, narrow.intermediate_size, narrow.conv_kernel_sizes)
    assert sizes == (1, 8, 16, ()) and narrow.vocab_size == config.vocab_size
    assert config.hidden_size == 16 and config.conv_kernel_sizes


def test_the_model_learns_to_find_replaced_tokens_and_is_fine_tuned_without_the_generator(tmp_path: Path) -> None:
    done = pretrained(steps=150, learning_rate=1e-2, objective="replaced")
    curve = done.curve.frame().groupby("name")["value"].last()
    share = curve["heldout_replaced"]
    assert 0 < curve["heldout_loss"] < -share * math.log(share) - (1 - share) * math.log(1 - share)
    assert curve["heldout_accuracy"] > 1 - share, "than by never finding one"
    assert curve["heldout_generator_loss"] < math.log(35)
    assert done.facts["heldout_loss"] == curve["heldout_loss"] and "heldout_bits_per_byte" not in done.facts
    save(done.model, tmp_path)
    tuned, _ = finetuned(start=tmp_path, epochs=1, learning_rate=1e-12)
    first = "bert.encoder.layer.0.intermediate.dense.weight"
    assert torch.allclose(weights(tuned.model)[first], weights(done.model)[first], atol=1e-6)


@pytest.mark.parametrize("arch", [GPT, LLAMA], ids=lambda arch: arch.name)
def test_a_family_that_is_no_encoder_is_refused(arch: Architecture) -> None:
    with pytest.raises(UserError, match=f"replaced does not work with models of kind {arch.kind}.*Leave it out"):
        pretrained(arch=arch, objective="replaced")


def test_its_models_are_not_scored_by_likelihood(mini_data: Path) -> None:
    asked = {"kind": "likelihood", "data": {"kind": "files", "path": "corpus.csv"}}
    study = mini_study(pretrain__objective="replaced", evaluations=[asked])
    with pytest.raises(UserError, match="likelihood asks a model's language modelling head.*replaced does not train"):
        plan(study, str(mini_data))
