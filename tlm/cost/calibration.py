"""How long a plan takes on this machine, projected from a few measured optimiser steps of each kind. Imports no torch.

The steps are measured in child processes like those that train (`tlm.execution.process`), as many at once as will train
side by side: they share the machine's memory bandwidth, and a GPU. The parent says how to measure, which a child answers
with {"ready": …}, then {"workload": …} again and again, each answered with {"timing": …}. Nothing is written to disk.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import fmean

from tlm.artifacts.record import Record
from tlm.cost.estimate import Cost, Workload
from tlm.errors import UserError
from tlm.execution.process import Child, talk_to_parent
from tlm.machine.runtime import Runtime
from tlm.planning.plan import Plan

SECONDS = 4.0
"""How long the steps of one workload are timed, about."""
WITHOUT_PROJECTION = "Or leave the projection out: --no-time."

Progress = Callable[[int, int, str], None]
"""Called as (done, total, what comes next)."""


@dataclass(frozen=True)
class Measured:
    """Seconds that a training process takes for each optimiser step, and once to start (imports, model, first products)."""

    step: float
    start_up: float


@dataclass(frozen=True)
class Calibration:
    """What was measured, on which device, and with how many processes side by side of how many threads each."""

    device: str
    processes: int
    threads: int
    measured: Mapping[Workload, Measured]

    def seconds(self, cost: Cost) -> float:
        """How long one training step of a plan takes, projected.

        Evaluation is taken to run at the rate (operations a second) of training, an epoch's short last batch to take as
        long as a whole one. What loading and saving weights takes is not in it.
        """
        measured = self.measured[cost.workload]
        return measured.start_up + measured.step * cost.steps * cost.flops / cost.training_flops


@dataclass(frozen=True)
class Projection:
    """Seconds that the steps still to run take."""

    of: Mapping[str, float]
    """By step key: as if each step had a process of its own."""
    processes: int
    longest_chain: float
    """The steps that wait for one another and take longest: more processes end no earlier than this."""
    uncounted: tuple[str, ...]
    """Stages that are left out because the store has no record of one."""

    @property
    def total(self) -> float:
        return max(sum(self.of.values()) / self.processes, self.longest_chain)


def side_by_side(runtime: Runtime, steps: int) -> int:
    """How many training processes really run at once: no more than there are workers, cores for them, or steps."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(runtime.workers, cores // runtime.threads, steps))


def calibrate(
    workloads: Iterable[Workload],
    runtime: Runtime,
    *,
    processes: int = 1,
    seconds: float = SECONDS,
    progress: Progress = lambda done, total, what: None,
) -> Calibration:
    """Measure each distinct workload in `processes` processes at once; the mean over them is the result.

    Raises:
        UserError: if there is no such device, or its memory does not hold a batch.
        StageFailed: if a measuring process dies.
    """
    distinct = list(dict.fromkeys(workloads))
    measured: dict[Workload, Measured] = {}
    progress(0, len(distinct), "starting")
    with ExitStack() as stack:
        children = [stack.enter_context(_measuring(runtime, seconds)) for _ in range(processes)]
        try:
            ready = [child.hear()["ready"] for child in children]
            imports = fmean(answer["seconds"] for answer in ready)
            for done, workload in enumerate(distinct):
                progress(done, len(distinct), workload.name)
                for child in children:
                    child.say(workload=workload.model_dump(mode="json"))
                timings = [child.hear()["timing"] for child in children]
                set_up = fmean(timing["set_up"] for timing in timings)
                measured[workload] = Measured(fmean(timing["step"] for timing in timings), imports + set_up)
        except UserError as error:
            raise UserError(error.problem, f"{error.remedy} {WITHOUT_PROJECTION}".strip()) from None
    return Calibration(ready[0]["device"], processes, runtime.threads, measured)


def project(
    planned: Plan,
    todo: set[str],
    costs: Mapping[str, Cost],
    calibration: Calibration | None,
    records: Iterable[Record],
) -> Projection:
    """Project the steps whose keys are in `todo`.

    Training steps as calibrated (None if none is to be done); others take what those of their stage in `records` took on
    average. What merely waits for a busy processor is not foreseen.
    """
    examples: dict[str, list[float]] = {}
    for record in records:
        examples.setdefault(record.stage, []).append(record.seconds)
    of: dict[str, float] = {}
    uncounted: dict[str, None] = {}
    ends: dict[str, float] = {}
    for step in planned.steps:
        seconds = 0.0
        if step.key in todo:
            if step.key in costs and calibration is not None:
                seconds = of[step.key] = calibration.seconds(costs[step.key])
            elif step.stage in examples:
                seconds = of[step.key] = fmean(examples[step.stage])
            else:
                uncounted[step.stage] = None
        ends[step.key] = seconds + max((ends[key] for key in step.input_keys.values()), default=0.0)
    processes = calibration.processes if calibration else 1
    return Projection(of, processes, max(ends.values()), tuple(uncounted))


def _measuring(runtime: Runtime, seconds: float) -> Child:
    child = Child("tlm.cost.calibration", "calibration", runtime)
    child.say(runtime=runtime.model_dump(mode="json"), seconds=seconds, started=time.time())
    return child


def main() -> None:
    """The child: it measures what it is told to until its parent ends it."""
    with talk_to_parent() as parent:
        from tlm.cost.measure import measure, prepare

        given = parent.hear()
        device, shown = prepare(Runtime.model_validate(given["runtime"]))
        parent.say(ready={"device": shown, "seconds": time.time() - given["started"]})
        while True:
            workload = Workload.model_validate(parent.hear()["workload"])
            parent.say(timing=measure(workload, device, given["seconds"]))


if __name__ == "__main__":
    main()
