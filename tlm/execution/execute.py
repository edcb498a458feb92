"""Run one step: use its artifact if there is a complete one, build and publish it otherwise. Imports no orchestrator."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from traceback import clear_frames
from typing import TYPE_CHECKING, Literal

from tlm.artifacts.provenance import provenance
from tlm.artifacts.record import Record
from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.execution.child import run_isolated
from tlm.execution.process import is_cancellation
from tlm.machine.file_errors import file_error
from tlm.machine.runtime import Runtime
from tlm.machine.threads import limited_threads
from tlm.stages import STAGES
from tlm.stages.job import Facts, Job

if TYPE_CHECKING:
    from tlm.training.optimisation import Point

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Outcome:
    """How a step got its artifact, and the artifact's record."""

    status: Literal["cached", "executed"]
    record: Record
    damage: str = ""
    """If there was an artifact that had to be made again: what was wrong with it."""


def execute(
    step: Step,
    runtime: Runtime,
    *,
    progress: Progress | None = None,
    points: Callable[[list[Point]], None] | None = None,
    before_work: Callable[[str], dict[str, str] | None] | None = None,
) -> Outcome:
    """Return the step's complete artifact, making it if need be. Safe to call from several processes at once.

    Args:
        points: is told a training's curve while it is made; it must not raise, nor take long.
        before_work: called, only if there is work to do, with the reason ("" or what is damaged); what it returns
            (MLflow run and experiment id) goes into the record.

    Raises:
        LookupError: if an input is missing.
        UserError: if the input is at fault, if a file cannot be read or written (a full disk), or if this process is
            training already and `runtime.isolate` is false.
    """
    store = ArtifactStore(runtime.artifacts)
    with store.lock(step.ref):
        found = store.inspect(step.ref)
        if found.status == "complete" and found.record is not None:
            return Outcome("cached", found.record)
        found.check_readable(step.ref)
        mlflow = before_work(found.reason) if before_work else None
        inputs = {name: store.get(ref) for name, ref in step.inputs.items()}
        started = time.monotonic()
        with store.draft(step.ref) as draft:
            job = Job(step, inputs, draft, runtime, progress or (lambda done, total: None), points)
            with _file_errors_told(draft):
                facts = _run(job, store)
                record = store.publish(
                    step,
                    draft,
                    facts=facts,
                    provenance=provenance(device=_device(step, runtime), threads=runtime.threads),
                    seconds=time.monotonic() - started,
                    mlflow=mlflow,
                )
        return Outcome("executed", record, found.reason)


@contextmanager
def _file_errors_told(draft: Path) -> Iterator[None]:
    """What goes wrong with a file becomes one line that names it: here, while the draft still takes the room it has."""
    try:
        yield
    except Exception as error:
        # Whoever keeps the error (a task's state does) would keep what its frames hold, such as open databases, to the end.
        clear_frames(error.__traceback__)
        if not is_cancellation(error) and (told := file_error(error, draft)):
            raise told from error
        raise


def _run(job: Job, store: ArtifactStore) -> Facts:
    stage = STAGES[job.step.stage]
    if not stage.trains:
        return stage.of(job.step).run(job)
    with store.checkpoints_kept(job.step.ref):
        if job.runtime.isolate:
            return run_isolated(job)
        with _alone(job), limited_threads(job.runtime.threads):
            return stage.of(job.step).run(job)


_training = threading.Lock()


@contextmanager
def _alone(job: Job) -> Iterator[None]:
    """torch's random numbers and its threads are the process's: two trainings side by side would both come out wrong."""
    if not _training.acquire(blocking=False):
        raise UserError(
            f"{job.step.ref}: this process is training already.", "Train one after the other, or isolate=True."
        )
    try:
        yield
    finally:
        _training.release()


def _device(step: Step, runtime: Runtime) -> str:
    return runtime.torch_device() if STAGES[step.stage].trains else "cpu"
