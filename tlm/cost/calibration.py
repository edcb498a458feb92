"""How long a plan takes on this machine, projected from a few measured optimiser steps of each kind. Imports no torch.

The steps are measured in child processes like those that train (`tlm.execution.child`), as many at once as will train
side by side: they share the machine's memory bandwidth, and a GPU. The parent writes lines of JSON to a child's standard
input: first how to measure, then one workload after another. The child answers with lines of JSON: {"ready": …}, then
{"timing": …} for each workload; or {"user_error": …} or {"error": …}, and ends. Nothing is written to disk.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from tlm.artifacts.store import Record
from tlm.cost.estimate import Cost, Workload
from tlm.errors import UserError
from tlm.execution.child import StageFailed, child_environment
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
    with _children(processes, runtime, seconds) as children:
        ready = [child.answer("ready") for child in children]
        imports = fmean(answer["seconds"] for answer in ready)
        for done, workload in enumerate(distinct):
            progress(done, len(distinct), workload.name)
            for child in children:
                child.say(workload.model_dump(mode="json"))
            timings = [child.answer("timing") for child in children]
            set_up = fmean(timing["set_up"] for timing in timings)
            measured[workload] = Measured(fmean(timing["step"] for timing in timings), imports + set_up)
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


class _Child:
    """A measuring process."""

    def __init__(self, runtime: Runtime, seconds: float) -> None:
        self.noise = tempfile.TemporaryFile("w+")  # noqa: SIM115 – closed by `end`
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tlm.cost.calibration"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.noise,
            text=True,
            env=child_environment(runtime),
        )
        self.say({"runtime": runtime.model_dump(mode="json"), "seconds": seconds, "started": time.time()})

    def say(self, message: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it is gone, and `answer` says why

    def answer(self, kind: str) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        message = json.loads(line) if line.endswith("\n") else {}
        if kind in message:
            return message[kind]
        if "user_error" in message:
            problem, way_out = message["user_error"]
            raise UserError(problem, f"{way_out} {WITHOUT_PROJECTION}".strip())
        code = self.process.wait()
        self.noise.seek(0)
        last = message.get("error") or "".join(self.noise.readlines()[-15:]).strip()
        raise StageFailed(f"calibration: a measuring process ended with code {code}\n{last}".strip())

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.noise.close()


@contextmanager
def _children(count: int, runtime: Runtime, seconds: float) -> Iterator[Sequence[_Child]]:
    with ExitStack() as stack:
        children = []
        for _ in range(count):
            children.append(_Child(runtime, seconds))
            stack.callback(children[-1].end)
        yield children


def main() -> None:
    """The child: it ends when its standard input does."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints must not mix with the answers

    def say(**answer: Any) -> None:
        answers.write(json.dumps(answer) + "\n")

    given = json.loads(sys.stdin.readline())
    try:
        from tlm.cost.measure import measure, prepare

        device, shown = prepare(Runtime.model_validate(given["runtime"]))
        say(ready={"device": shown, "seconds": time.time() - given["started"]})
        for line in sys.stdin:
            say(timing=measure(Workload.model_validate_json(line), device, given["seconds"]))
    except UserError as error:
        say(user_error=[error.problem, error.way_out])
    except Exception:
        say(error=traceback.format_exc())


if __name__ == "__main__":
    main()
