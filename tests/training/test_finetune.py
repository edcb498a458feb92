"""Fine-tuning learns, predicts every dev and test item once, and is the same model for the same seed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import ARCH, VOCABULARY, finetuned, pretrained, task_of, weights

from tlm.modeling.interchange import save
from tlm.study.initialization import Initialization
from tlm.training.finetune import accuracy, predict
from tlm.training.optimisation import NonFiniteLoss


def test_finetuning_learns_a_separable_task() -> None:
    done, _ = finetuned()
    assert done.facts["test_accuracy"] >= 0.9
    assert done.facts["test_items"] == 10
    assert done.curve.frame().query("name == 'dev_accuracy'")["step"].tolist() == [5 * e for e in range(1, 9)]


def test_predictions_hold_every_dev_and_test_item_once_with_its_label() -> None:
    _, items = task_of()
    done, predictions = finetuned(epochs=1)
    held = items[items["part"] != "train"]
    assert predictions["row"].tolist() == held["row"].tolist()
    assert predictions["label"].tolist() == held["label"].tolist()
    assert all(len(logits) == 2 for logits in predictions["logits"])
    test = predictions[predictions["part"] == "test"]
    recomputed = np.stack(test["logits"].to_list()).argmax(axis=1) == test["label"]
    assert done.facts["test_accuracy"] == pytest.approx(float(recomputed.mean()))


def test_finetuning_is_bit_identical_for_the_same_seed_and_different_for_another() -> None:
    one, two, other = (np.stack(finetuned(s, epochs=2)[1]["logits"].to_list()) for s in (0, 0, 1))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_finetuning_starts_from_the_pretrained_encoder(tmp_path: Path) -> None:
    model = pretrained().model
    save(model, tmp_path)
    done, _ = finetuned(start=tmp_path, epochs=1, learning_rate=1e-12)
    ours, theirs = weights(done.model), weights(model)
    shared = [name for name in theirs if name.startswith("bert.") and name in ours]
    assert len(shared) > 10
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in shared)


def test_a_classifier_from_scratch_begins_with_the_initialization_and_vectors_that_are_given() -> None:
    still = {"epochs": 1, "learning_rate": 1e-30, "weight_decay": 0.0}
    vectors = np.full((len(VOCABULARY), ARCH.hidden_size), 0.25, dtype=np.float32)
    given = {"initialization": Initialization(matrices="fan_in"), "embeddings": vectors}
    model = finetuned(**still, run=given)[0].model
    assert torch.equal(model.get_input_embeddings().weight.detach(), torch.from_numpy(vectors))
    for module in (model.bert.pooler["dense"], model.classifier):
        assert module.weight.std().item() == pytest.approx(ARCH.hidden_size**-0.5, rel=0.35)


def test_dropout_of_a_training_takes_the_place_of_the_architectures(tmp_path: Path) -> None:
    save(pretrained(dropout=0.3).model, tmp_path)
    for dropout, (hidden, attention) in ((0.25, (0.25, 0.25)), (0.0, (0.0, 0.0)), (None, (0.1, 0.1))):
        model = finetuned(start=tmp_path, epochs=1, dropout=dropout)[0].model
        layer = model.bert.encoder["layer"][0]
        assert (layer.output.dropout.p, layer.attention["self"].dropout.p) == (hidden, attention)
        assert model.dropout.p == model.bert.embeddings.dropout.p == hidden


def test_predictions_do_not_depend_on_batch_size_or_order() -> None:
    tokens, items = task_of()
    model = finetuned(epochs=1)[0].model
    rows = items["row"].to_numpy()
    whole = predict(model, tokens, rows, VOCABULARY, 12)
    single = predict(model, tokens, rows, VOCABULARY, 12, batch_size=1)
    turned = predict(model, tokens, rows[::-1].copy(), VOCABULARY, 12, batch_size=7)
    np.testing.assert_allclose(single, whole, atol=1e-5)
    np.testing.assert_allclose(turned[::-1], whole, atol=1e-5)


def test_a_diverging_finetuning_is_an_error() -> None:
    with pytest.raises(NonFiniteLoss, match="loss is"):
        finetuned(learning_rate=1e30)


def test_accuracy_of_nothing_is_not_a_number() -> None:
    assert math.isnan(accuracy(np.empty((0, 2), dtype=np.float32), np.empty(0, dtype=np.int64)))
    assert accuracy(np.array([[0.0, 1.0], [1.0, 0.0]], dtype=np.float32), np.array([1, 1])) == 0.5
