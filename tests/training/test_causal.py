"""Decoders: every next token is predicted, training learns, and fine-tuning starts from it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import ARCH, GPT, LLAMA, VOCABULARY, finetuned, pretrained, task_of, weights

from tlm.data.ragged import Ragged
from tlm.errors import UserError
from tlm.modeling.families.base import family_of
from tlm.modeling.gpt2 import to_gpt2
from tlm.modeling.interchange import load_strict, save
from tlm.modeling.packing import pack
from tlm.study.architecture import Architecture
from tlm.study.config import PretrainConfig
from tlm.training.finetune import predict
from tlm.training.masking import next_token_inputs
from tlm.training.pretrain import heldout_metrics, objective_of, pretraining_batches

LENGTH = 12
CLS, SEP = VOCABULARY.cls, VOCABULARY.sep


def ragged_corpus(size: int = 40) -> Ragged:
    generator = np.random.default_rng(3)
    return Ragged.from_lists([generator.integers(5, 40, generator.integers(0, 16)) for _ in range(size)])


# --- what is predicted ---


@pytest.mark.parametrize("cost", [-1, 0, 5, 1_000])
def test_every_token_predicts_the_next_of_its_own_sequence_from_cls_to_sep(cost: int) -> None:
    texts = [[7, 8, 9], [], [10] * 30, [11]]
    batch = pack(Ragged.from_lists(texts), np.arange(4), VOCABULARY, LENGTH, cost)
    inputs = next_token_inputs(batch)
    rows_N = inputs["queries"].rows_N
    sequence_N = batch.layout.sequence_of()[rows_N]
    for place, item in enumerate(batch.order_B):
        whole = [CLS, *texts[item][: LENGTH - 2], SEP]
        own = sequence_N == place
        assert batch.ids_R[rows_N[own]].tolist() == whole[:-1]
        assert inputs["labels_N"][own].tolist() == whole[1:]
        assert batch.layout.positions_R[rows_N[own]].tolist() == list(range(len(whole) - 1))
    assert torch.equal(inputs["ids_R"], batch.ids_R), "nothing is masked"


def test_encoders_and_decoders_see_the_same_items_in_the_same_order() -> None:
    texts = ragged_corpus()
    config = PretrainConfig(steps=9, batch_size=7)
    seen = []
    for arch in (ARCH, GPT):
        family = family_of(arch)
        model = family.language_model(family.configure(arch, VOCABULARY, LENGTH))
        objective = objective_of(arch, config)
        batches = pretraining_batches(objective, model, texts, VOCABULARY, config, max_length=LENGTH, seed=3)
        seen.append([batches.order.batch(step)[1].tolist() for step in range(9)])
    assert seen[0] == seen[1]


# --- learning ---


DECODERS = pytest.mark.parametrize("arch", [GPT, LLAMA], ids=lambda arch: arch.name)


@pytest.mark.parametrize("arch", [GPT, pytest.param(LLAMA, marks=pytest.mark.slow)], ids=lambda arch: arch.name)
def test_pretraining_lowers_the_heldout_loss_below_that_of_guessing(arch: Architecture) -> None:
    done = pretrained(arch=arch, steps=150, learning_rate=1e-2)
    assert isinstance(done.model, family_of(arch).language_model)
    losses = done.curve.frame().query("name == 'heldout_loss'")["value"].tolist()
    assert len(losses) == 5 and losses[-1] < losses[0]
    # Nine tokens are predicted; the first is one of six, the others follow from the one before.
    assert math.log(6) / 9 - 0.05 < losses[-1] < math.log(6) / 9 + 0.3
    assert done.facts["heldout_loss"] == losses[-1]
    assert done.facts["heldout_accuracy"] > 0.85
    assert done.facts["tokens"] == pretrained(steps=150).facts["tokens"]
    assert done.facts["parameters"] == sum(p.numel() for p in done.model.parameters())


def test_the_heldout_loss_is_transformers_mean_over_all_next_tokens() -> None:
    model, texts = pretrained(arch=GPT).model, ragged_corpus()
    config = PretrainConfig(steps=1, precision="float32")
    objective = objective_of(GPT, config)
    found = heldout_metrics(objective, model, model, texts, VOCABULARY, config, max_length=LENGTH)
    theirs: Any = to_gpt2(model)
    total = right = count = 0.0
    for number in range(len(texts)):
        ids = torch.tensor([[CLS, *texts[number][: LENGTH - 2].tolist(), SEP]])
        with torch.no_grad():
            out = theirs(ids, labels=ids)
        total += float(out.loss) * (ids.shape[1] - 1)
        right += float((out.logits[0, :-1].argmax(-1) == ids[0, 1:]).sum())
        count += ids.shape[1] - 1
    assert found["heldout_loss"] == pytest.approx(total / count, rel=1e-5)
    assert found["heldout_accuracy"] == pytest.approx(right / count, abs=1e-6)


def test_training_is_bit_identical_for_the_same_seed_whatever_the_mlm_probability() -> None:
    one, two, other = pretrained(arch=GPT), pretrained(arch=GPT, mlm_probability=0.4), pretrained(1, arch=GPT)
    assert all(torch.equal(tensor, weights(two.model)[name]) for name, tensor in weights(one.model).items())
    assert one.curve.rows == two.curve.rows
    assert not all(torch.equal(tensor, weights(other.model)[name]) for name, tensor in weights(one.model).items())


@DECODERS
def test_finetuning_learns_a_separable_task_and_predicts_alike_in_any_batch(arch: Architecture) -> None:
    done, predictions = finetuned(arch=arch, precision="float32")
    assert isinstance(done.model, family_of(arch).classifier)
    assert done.facts["test_accuracy"] >= 0.9
    tokens, items = task_of()
    held = items[items["part"] != "train"]
    rows = held["row"].to_numpy()
    known = np.stack(predictions["logits"].to_list())
    np.testing.assert_allclose(predict(done.model, tokens, rows, VOCABULARY, LENGTH, batch_size=1), known, atol=1e-4)


@DECODERS
def test_finetuning_starts_from_the_pretrained_layers(arch: Architecture, tmp_path: Path) -> None:
    model = pretrained(arch=arch).model
    save(model, tmp_path)
    done, _ = finetuned(arch=arch, start=tmp_path, epochs=1, learning_rate=1e-12)
    ours, theirs = weights(done.model), weights(model)
    shared = [name for name in theirs if name.startswith(model.base_model_prefix)]
    assert shared == [name for name in ours if name != "score.weight"]
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in shared)
    save(done.model, tmp_path / "tuned")
    classifier = family_of(arch).classifier
    assert isinstance(load_strict(classifier, tmp_path / "tuned"), classifier)
    with pytest.raises(UserError, match="a model of type '.*', not 'bert' or 'tlm_bert'"):
        finetuned(arch=ARCH, start=tmp_path)


def test_bfloat16_trains() -> None:
    done = pretrained(arch=GPT, steps=2, precision="bfloat16")
    assert all(tensor.dtype == torch.float32 for tensor in done.model.parameters())
    assert math.isfinite(done.facts["heldout_loss"])
