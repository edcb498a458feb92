"""Finding the batch that fits: ever larger ones, each trained for a few steps, and the largest is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import Mini, only

from tlm.artifacts.step import Step
from tlm.errors import BatchTooLarge, UserError
from tlm.execution import child as worker
from tlm.execution.child import run_isolated
from tlm.execution.process import StageFailed
from tlm.execution.trial import MARGIN, STEPS, try_batches
from tlm.stages import STAGES, Stage
from tlm.stages.job import Facts, Job


def job_of(mini: Mini, step: Step, out: Path) -> Job:
    out.mkdir()
    return Job(step, {name: mini.store.get(ref) for name, ref in step.inputs.items()}, out, mini.runtime, print)


def memory_for(items: int, tried: list[int]) -> Callable[[Stage, Job], Facts]:
    """The run of a stage that trains 10 steps if its batch is of so many items at most."""

    def run(stage: Stage, job: Job) -> Facts:
        size = int(job.step.config["pretrain"]["batch_size"])
        tried.append(size)
        training: Any = SimpleNamespace(step=0, steps=10)
        for training.step in range(1, 11):
            if size > items:
                raise BatchTooLarge("out of memory.", items=size)
            for hook in job.training_hooks():
                hook.after_step(training)
        raise AssertionError("a trial ends early")

    return run


@pytest.mark.parametrize(("holds", "largest"), [(2000, 50), (40, 25), (32, 25), (31, 12), (2, 1), (1, None)])
def test_sizes_grow_to_the_largest_that_fits_with_room_to_spare(
    holds: int, largest: int | None, mini: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    fitting: list[int] = []
    monkeypatch.setattr(STAGES["pretrain"], "run", memory_for(holds, tried))
    try_batches(job_of(mini, only(mini.plan, "pretrain", ws=60, arch="one"), tmp_path / "out"), 100, fitting.append)
    assert (fitting[-1] if fitting else None) == largest
    assert fitting == [1, 3, 6, 12, 25, 50][: len(fitting)]
    assert tried == sorted(tried) and all(size >= MARGIN * fits for size, fits in zip(tried, fitting, strict=False))


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_trial_trains_a_few_real_steps_and_leaves_no_checkpoint(
    stage: str, mini: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = {"ws": 60, "arch": "conv"}
    step = only(mini.plan, stage, **labels)
    steps: list[int] = []
    from tlm.training import loop

    real = loop.gradients
    monkeypatch.setattr(loop, "gradients", lambda *given: (steps.append(1), real(*given))[1])
    fitting: list[int] = []
    try_batches(job_of(mini, step, tmp_path / "out"), 9, fitting.append)
    assert fitting == [1, 2, 4]
    assert len(steps) == STEPS * len(fitting)
    assert mini.store.idle_checkpoints() == []


def test_training_shorter_than_a_trial_fits_too(mini: Mini, tmp_path: Path) -> None:
    step = only(mini.plan, "pretrain", ws=60, arch="one")
    config = {**step.config, "pretrain": {**step.config["pretrain"], "steps": 2}}
    fitting: list[int] = []
    try_batches(
        job_of(mini, Step.model_validate({**step.model_dump(), "config": config}), tmp_path / "out"), 4, fitting.append
    )
    assert fitting == [1, 2]


@pytest.mark.parametrize(
    ("fitting", "ending", "remedy"),
    [
        ([1, 2, 4], {}, "A batch of 4 fits: set batch_size: 4."),
        ([1, 2], StageFailed("ended with code -11"), "A batch of 2 fits: set batch_size: 2."),
        ([], {}, "Not even one item fits: use a smaller model"),
        ([], UserError("out of memory."), "Not even one item fits: use a smaller model"),
    ],
)
def test_the_way_out_is_the_largest_batch_that_was_seen_to_fit(
    fitting: list[int], ending: Any, remedy: str, mini: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def child(job: Job, trial: int = 0, fits: Callable[[int], None] = print) -> Facts:
        if not trial:
            raise BatchTooLarge("out of memory on cpu with a batch of 9.", items=9)
        assert trial == 9
        for size in fitting:
            fits(size)
        if isinstance(ending, Exception):
            raise ending
        return ending

    monkeypatch.setattr(worker, "_run_child", child)
    with pytest.raises(UserError) as raised:
        run_isolated(job_of(mini, only(mini.plan, "pretrain", ws=60, arch="one"), tmp_path / "out"))
    assert raised.value.problem == "out of memory on cpu with a batch of 9."
    assert raised.value.remedy.startswith(remedy)
