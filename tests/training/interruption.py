"""Training that is interrupted after a chosen step, in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import CONV, finetuned, pretrained, weights

from tlm.study.architecture import Architecture
from tlm.training import finetune, pretrain
from tlm.training.checkpoint import Checkpoints
from tlm.training.hooks import Hook, Run

Result = tuple[dict[str, torch.Tensor], list[Any], dict[str, float | int], Any]
Training = Callable[[dict[str, Any]], Result]
STEPS = 7
"""Pre-training: two epochs of three steps, and one step of the next."""


class Interrupted(Exception):
    pass


class Interrupt(Hook):
    """Raises at the end of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def after_step(self, run: Run) -> None:
        if run.step == self.step:
            raise Interrupted


def runner(kind: str, arch: Architecture, precision: str, **fields: Any) -> Training:
    """A function that runs a small training, given what merely runs it, and returns all that it made.

    `fields`: of the configuration of pre-training.
    """

    def pretraining(run: dict[str, Any]) -> Result:
        usual = {"steps": STEPS, "batch_size": 50, "warmup_share": 0.3}
        done = pretrained(arch=arch, precision=precision, run=run, **usual, **fields)
        return weights(done.model), done.curve.rows, done.facts, None

    def finetuning(run: dict[str, Any]) -> Result:
        done, predictions = finetuned(arch=arch, precision=precision, epochs=2, batch_size=14, run=run)
        return weights(done.model), done.curve.rows, done.facts, predictions["logits"].tolist()

    return pretraining if kind == "pretrain" else finetuning


def stop_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise at the very end of a step, before its checkpoint is written (0: never)."""
    for module in (pretrain, finetune):
        original = getattr(module, "original_train", None) or module.train

        def train(*args: Any, original: Any = original, **options: Any) -> None:
            hooks: list[Hook] = options["hooks"]
            place = next((i for i, hook in enumerate(hooks) if isinstance(hook, Checkpoints)), len(hooks))
            original(*args, **{**options, "hooks": [*hooks[:place], Interrupt(step), *hooks[place:]]})

        monkeypatch.setattr(module, "original_train", original, raising=False)
        monkeypatch.setattr(module, "train", train)


def every_step(folder: Path, identity: str = "run") -> dict[str, Any]:
    return {"hooks": [Checkpoints(folder, identity, every=0)]}


def assert_same(found: Result, expected: Result) -> None:
    for name, tensor in expected[0].items():
        assert torch.equal(found[0][name], tensor), name
    assert found[1] == expected[1] and found[2] == expected[2]
    for mine, theirs in zip(found[3] or [], expected[3] or [], strict=True):
        assert (mine == theirs).all()


def interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch, identity: str = "run", step: int = 5) -> Path:
    """The checkpoint that a run interrupted after `step` steps left."""
    stop_after(step, monkeypatch)
    with pytest.raises(Interrupted):
        runner("pretrain", CONV, "float32")(every_step(folder, identity))
    stop_after(0, monkeypatch)
    [left] = folder.iterdir()
    assert left.name == f"{step - 1:09d}.safetensors"
    return left
