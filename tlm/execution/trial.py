"""Finding a batch size that fits into memory, in a process of its own.

The process that ran out of memory cannot tell: what torch has freed lies in pieces in the heap, and oneDNN's compiler
keeps failing in a thread where it failed once. Here batches only ever grow, up to the first that does not fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tlm.errors import UserError
from tlm.stages import STAGES
from tlm.stages.job import Job
from tlm.training.hooks import Hook, Run

STEPS = 3
"""How many steps a trial trains: the first is not the one that needs most memory."""
MARGIN = 1.25
"""A batch is said to fit if one that is larger by this factor does: later batches hold longer texts, or find less of the
heap in one piece."""


class _Enough(Exception):
    """The trial has trained its STEPS."""


class StopEarly(Hook):
    """Ends a run after STEPS steps."""

    def after_step(self, run: Run) -> None:
        if run.step == STEPS:
            raise _Enough


@dataclass(frozen=True)
class _Trial(Job):
    def training_hooks(self) -> tuple[Hook, ...]:
        return (StopEarly(),)


def try_batches(job: Job, items: int, fits: Callable[[int], None]) -> None:
    """Train a few steps with ever larger batches up to half of `items`, and report each size that the memory holds.

    It ends with the first that it does not hold; the process may end there too.
    """
    for size in sorted(_halves(items)):
        try:
            smaller = _with_batch_size(job, math.ceil(size * MARGIN))
            STAGES[job.step.stage].of(smaller.step).run(smaller)
        except _Enough:
            pass
        except UserError:
            return
        fits(size)


def _halves(items: int) -> Iterator[int]:
    while items := items // 2:
        yield items


def _with_batch_size(job: Job, size: int) -> Job:
    stage = job.step.stage
    config = {**job.step.config, stage: {**job.step.config[stage], "batch_size": size}}
    step = job.step.model_validate({**job.step.model_dump(), "config": config})
    return _Trial(**{**vars(job), "step": step, "progress": lambda done, total: None})
