"""Steps one after the other with the library alone: no orchestrator, no tracking.

`python -m tlm.sequential BUNDLE` runs a bundle (`tlm.execution.bundle`) on a machine that has torch, transformers and
little else. Run it again to go on: what is made is kept, and a training that was cut short goes on from its checkpoint.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.execution.bundle import ARTIFACTS, inputs_from_outside, read_bundle, unprepared
from tlm.execution.execute import Outcome, Progress, execute
from tlm.execution.importing import copy_new, survey
from tlm.execution.process import StageFailed
from tlm.machine import interruption
from tlm.machine.printing import printable
from tlm.machine.runtime import Runtime
from tlm.planning.plan import Plan
from tlm.stages import STAGES

GO_ON = "Finished steps are kept: run the same command again to go on."

Execute = Callable[..., Outcome]
"""`tlm.execution.execute.execute`, or what does as much and more (tracking) with the same arguments."""


def run_plan(
    plan_or_steps: Plan | Iterable[Step],
    runtime: Runtime,
    *,
    stages: Collection[str] | None = None,
    progress: Callable[[Step], Progress] | None = None,
    run: Execute = execute,
) -> list[Outcome]:
    """Run steps in their order, in which each comes after its inputs; those already made are found, and not run.

    Args:
        stages: only the steps of these.
        progress: called as a step begins; returns what the step calls with (done, total).

    Raises:
        LookupError: if an input is missing.
        UserError, StageFailed: as `execute`.
    """
    steps = plan_or_steps.steps if isinstance(plan_or_steps, Plan) else plan_or_steps
    chosen = [step for step in steps if stages is None or step.stage in stages]
    return [run(step, runtime, progress=progress(step) if progress else None) for step in chosen]


def prepare(
    planned: Plan, runtime: Runtime, *, stages: Collection[str] | None = None, run: Execute = execute
) -> list[Outcome]:
    """Make here what a bundle of these stages is made from (sources, tokens, corpora, …): none of it trains."""
    return run_plan(unprepared(planned, ArtifactStore(runtime.artifacts), stages), runtime, run=run)


class Clock:
    """How long steps take, and whether there is time for one more."""

    def __init__(self, limit: float | None) -> None:
        self.end = time.monotonic() + limit if limit is not None else math.inf
        self.longest: dict[object, float] = {}

    @property
    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()

    def note(self, step: Step, seconds: float) -> None:
        for likeness in _likenesses(step):
            self.longest[likeness] = max(seconds, self.longest.get(likeness, 0.0))

    def has_time_for(self, step: Step) -> bool:
        """Judged by the longest of the most similar steps so far; if there were none, any time will do."""
        expected = next((self.longest[each] for each in _likenesses(step) if each in self.longest), 0.0)
        return self.left > expected


def _likenesses(step: Step) -> tuple[object, ...]:
    """What steps of about the same length have in common, the closest first: all but the seed, the stage."""
    labels = {name: value for name, value in step.labels.items() if not name.endswith("seed")}
    return (step.stage, *sorted(labels.items())), step.stage


def run_bundle(
    folder: Path, runtime: Runtime, *, time_limit: float | None = None, say: Callable[[str], None] = lambda line: None
) -> dict[str, str]:
    """Run a bundle's steps in order into `runtime.home`; return those that are left (stage/slug-key), and why.

    A stage that does not train is left if a package that it needs is not there: it costs little at home.

    Args:
        time_limit: seconds. No step begins that would likely end later, and a training that does is stopped.
        say: called with a line for each step.

    Raises:
        UserError: if the folder is no bundle or damaged, or a training stage cannot run here; as raised by a step.
        StageFailed: if a training process dies.
    """
    clock = Clock(time_limit)
    steps = read_bundle(folder).steps
    if Path(runtime.home).resolve() != folder.resolve():
        _fetch_inputs(folder, steps, runtime)
    else:
        _check_inputs(folder, steps)
    lacking = {stage: STAGES[stage].missing_package() for stage in dict.fromkeys(step.stage for step in steps)}
    for stage, package in lacking.items():
        if package and STAGES[stage].trains:
            raise UserError(f"{stage} cannot run here: Python has no {package}.", f"Install {package}.")
    left: dict[str, str] = {}
    waiting: set[str] = set()
    for step in steps:
        reason = _obstacle(step, waiting, lacking[step.stage])
        if not reason and not _run_in_time(step, runtime, clock, say):
            reason = "no time was left"
        if reason:
            left[str(step.ref)] = reason
            waiting.add(step.key)
            say(f"left      {step.ref}: {reason}")
    return left


def _run_in_time(step: Step, runtime: Runtime, clock: Clock, say: Callable[[str], None]) -> bool:
    """Run a step, or find it made. False if the time is too short, or was: then a checkpoint is left to go on from."""
    made = ArtifactStore(runtime.artifacts).inspect(step.ref, verify=False).status == "complete"
    if not made and not clock.has_time_for(step):
        return False
    limit = min(runtime.stage_timeout or math.inf, max(clock.left, 0.1))
    timed = runtime.model_copy(update={"stage_timeout": limit if limit < math.inf else None})
    try:
        outcome = execute(step, timed)
    except StageFailed:
        if clock.left > 0:
            raise
        return False
    clock.note(step, outcome.record.seconds)
    say(f"{outcome.status:9} {step.ref} ({outcome.record.seconds:.1f} s)")
    return True


def _obstacle(step: Step, waiting: Collection[str], missing_package: str | None) -> str:
    if missing_package:
        return f"Python here has no {missing_package}"
    return "it needs what is left above" if any(key in waiting for key in step.input_keys.values()) else ""


def _fetch_inputs(folder: Path, steps: Sequence[Step], runtime: Runtime) -> None:
    """Copy what the steps are made from to another home, and nothing else that lies in the bundle.

    What that was made from was not brought along, so it comes without its inputs.
    """
    store, needed = ArtifactStore(runtime.artifacts), {str(ref) for ref in inputs_from_outside(steps)}
    found = survey(folder, store, closed=False)
    for name, reason in found.refused.items():
        if name in needed:
            raise UserError(f"{folder}: {name}: {reason}.", "Copy the bundle again.")
    copy_new(replace(found, new=tuple(record for record in found.new if str(record.ref) in needed)), store)


def _check_inputs(folder: Path, steps: Sequence[Step]) -> None:
    store = ArtifactStore(f"{folder}/{ARTIFACTS}")
    for ref in inputs_from_outside(steps):
        seen = store.inspect(ref)
        if seen.status != "complete":
            raise UserError(
                f"{folder}: {ref} is {seen.status} ({seen.reason or 'no folder'}).", "Copy the bundle again."
            )


def _say(line: str, stream: TextIO | None = None) -> None:
    """A line, whatever stands in the bundle and whatever letters the terminal has."""
    stream = stream or sys.stdout
    encoding = stream.encoding or "utf-8"
    stream.write(printable(line).encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Exit code 0 also if steps are left, 2 for a user's error, 1 if a training process died."""
    parser = argparse.ArgumentParser(prog="python -m tlm.sequential", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("bundle", type=Path, help="a folder that `tlm export` wrote")
    parser.add_argument("--home", type=Path, help="where artifacts are written (default: into the bundle)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--time-limit", type=float, metavar="SECONDS", help="begin no step that would end later")
    parser.add_argument(
        "--in-process",
        action="store_true",
        help="no child processes: saves each step its start, but none can be stopped",
    )
    given = parser.parse_args(arguments)
    try:
        home = str(given.home or given.bundle)
        runtime = Runtime.from_environment(home=home, device=given.device, isolate=not given.in_process, workers=1)
        left = run_bundle(given.bundle, runtime, time_limit=given.time_limit, say=_say)
    except UserError as error:
        _say(f"error: {error}", sys.stderr)
        return 2
    except StageFailed as error:
        _say(f"failed: {error}\n{GO_ON}", sys.stderr)
        return 1
    _say(f"{len(left)} steps are left" + (": run the same command again to go on." if left else "."))
    return 0


if __name__ == "__main__":
    with interruption.saying(f"interrupted. {GO_ON}"):
        sys.exit(interruption.run(main))
