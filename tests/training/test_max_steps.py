"""max_steps cuts a run short: its schedule and its last evaluation are those of the run it becomes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy import ARCH, GPT, finetuned, pretrained, weights

from tlm.study.architecture import Architecture
from tlm.training.optimisation import Curve

ARCHS = pytest.mark.parametrize("arch", [ARCH, GPT], ids=lambda arch: arch.name)


def values(curve: Curve, name: str) -> list[tuple[int, float]]:
    return [(step, value) for step, _, found, value in curve.rows if found == name]


@ARCHS
def test_a_shortened_pretraining_is_the_run_of_so_many_steps(arch: Architecture) -> None:
    cut, whole = pretrained(arch=arch, steps=50, max_steps=7), pretrained(arch=arch, steps=7)
    assert all(torch.equal(tensor, weights(whole.model)[name]) for name, tensor in weights(cut.model).items())
    assert cut.curve.rows == whole.curve.rows and cut.facts == whole.facts
    assert cut.facts["steps"] == 7
    assert values(cut.curve, "heldout_loss")[-1] == (7, cut.facts["heldout_loss"])
    in_epochs = pretrained(arch=arch, steps=None, epochs=3, max_steps=7)
    assert in_epochs.curve.rows == whole.curve.rows


def test_the_schedule_is_that_of_the_shortened_run() -> None:
    rates = values(pretrained(steps=1_000, max_steps=40, learning_rate=1.0e-3).curve, "learning_rate")
    assert rates == [(1, 1e-3), (20, pytest.approx(1e-3 * 21 / 40)), (40, pytest.approx(1e-3 / 40))]


@pytest.mark.parametrize("max_steps", [10, 11, 10_000, None])
def test_max_steps_that_are_no_fewer_change_nothing(max_steps: int | None) -> None:
    assert pretrained(steps=10, max_steps=max_steps).curve.rows == pretrained(steps=10).curve.rows


@ARCHS
@pytest.mark.parametrize(("max_steps", "evaluated"), [(1, [1]), (7, [5, 7]), (10, [5, 10]), (12, [5, 10, 12])])
def test_a_finetuning_cut_within_an_epoch_is_evaluated_at_its_end(
    arch: Architecture, max_steps: int, evaluated: list[int]
) -> None:
    done, predictions = finetuned(arch=arch, epochs=8, max_steps=max_steps)
    assert done.facts["steps"] == max_steps
    found = values(done.curve, "dev_accuracy")
    assert [step for step, _ in found] == evaluated
    assert found[-1][1] == done.facts["dev_accuracy"]
    dev = predictions[predictions["part"] == "dev"]
    right = np.stack(dev["logits"].to_list()).argmax(axis=1) == dev["label"]
    assert done.facts["dev_accuracy"] == pytest.approx(float(right.mean()))


def test_one_step_is_evaluated_too() -> None:
    done = pretrained(steps=50, max_steps=1)
    assert [step for step, _ in values(done.curve, "heldout_loss")] == [1]
