"""A step in MLflow: a child run of the study's, opened before the work and completed after it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient
from mlflow.entities import Run, RunTag

from tasks.tracking import processes, runs
from tasks.tracking.outbox import HURRY
from tasks.tracking.study import Tracking
from tasks.tracking.view import View
from tlm.artifacts.provenance import code_version
from tlm.artifacts.record import Record, device_of
from tlm.artifacts.step import Step
from tlm.execution.execute import Outcome, Progress, execute
from tlm.execution.process import is_cancellation
from tlm.machine import interruption
from tlm.machine.runtime import Runtime
from tlm.stages import STAGES

if TYPE_CHECKING:
    from tlm.training.optimisation import Point

POINTS_SECONDS = 5.0
"""Between two looks at a curve in MLflow, at least."""


class StepRun:
    """One step's child run."""

    def __init__(self, tracking: Tracking, step: Step, runtime: Runtime) -> None:
        self.tracking = tracking
        self.step = step
        self.runtime = runtime
        self.run_id: str | None = None
        self._opened: Run | None = None
        """The run as it was opened, as long as nothing else was told of it: MLflow need not be asked what it has."""
        self._points: list[Point] = []
        """Of the curve, what MLflow is still to be told."""
        self._over = False
        self._next_points = 0.0
        """When it is to be told at the earliest; never, while it has not answered to the last."""

    @property
    def _tags(self) -> dict[str, str]:
        return {"tlm.cache": "miss", "study": self.tracking.study}

    def start(self, reason: str = "") -> dict[str, str]:
        """Open the run; return what the record keeps of it."""
        more = {"rebuilt_because": reason[: runs.TAG_LIMIT]} if reason else {}
        tags = {**self._tags, **({"tlm.rebuilt_because": reason} if reason else {})}
        return {**self._start(code_version(), tags), **more}

    def start_import(self, made: Record, origin: str) -> dict[str, str]:
        """Open the run of an artifact that was made elsewhere and came in the folder `origin`; as `start`."""
        tags = {**self._tags, "tlm.imported_from": origin, "device": device_of(made)}
        return {**self._start(made.provenance, tags), "imported_from": origin}

    def points(self, points: list[Point]) -> None:
        """Log what a training's curve has gained, now and then, beside the work. What does not get through is logged at the
        end, with the record."""
        self._points += points
        self._opened = None
        if self.run_id is None or time.monotonic() < self._next_points:
            return
        run_id, told, at = self.run_id, self._points, runs.now()
        self._points, self._next_points = [], math.inf

        def tell(client: MlflowClient) -> None:
            if not self._over:
                runs.log_points(client, run_id, told, at)
            self._next_points = time.monotonic() + POINTS_SECONDS

        self.tracking.outbox.put(tell)

    def finish(self, record: Record) -> None:
        """Log what the step made and end the run."""
        self._over = True
        self._put(lambda view: self._finish(view, record))

    def fail(self, error: BaseException) -> None:
        """End the run as failed, and say why, or as killed if the error is a cancellation."""
        self._over = True
        cancelled = is_cancellation(error)
        text = f"{type(error).__name__}: {error}"[: runs.TAG_LIMIT]
        if run_id := self.run_id:

            def end(view: View) -> None:
                why = runs.Content(tags=() if cancelled else (RunTag("tlm.error", text),))
                runs.log_content(view.client, run_id, view.identity(self.step) + why)
                view.client.set_terminated(run_id, "KILLED" if cancelled else "FAILED")

            self._put(end)

    def _start(self, provenance: Mapping[str, Any], tags: Mapping[str, str]) -> dict[str, str]:
        interruption.hold()
        where = (self.tracking.experiment_id, self.tracking.parent_run_id)
        run = self.tracking.outbox.now(lambda client: runs.create(client, *where, self.step, provenance, tags))
        self.run_id = run_id = str(run.info.run_id) if run else None
        if run_id and STAGES[self.step.stage].trains:  # people look at it meanwhile; others are short
            self._put(lambda view: runs.log_content(view.client, run_id, view.identity(self.step)))
        else:
            self._opened = run
        return self.tracking.recorded(self.run_id)

    def _finish(self, view: View, record: Record) -> None:
        opened, self._opened = self._opened, None  # it may be told again, after it was told in part
        run = opened or (view.run(self.run_id) if self.run_id else view.maker(record))
        parent = None if run else view.run(self.tracking.parent_run_id)
        if parent:
            run = view.add(record, parent)
        if run:  # else the user has removed both
            view.complete(run, record)

    def _put(self, job: Any) -> None:
        self.tracking.outbox.put(lambda client: job(self.tracking.view(client, self.runtime)))


def execute_tracked(step: Step, runtime: Runtime, tracking: Tracking, *, progress: Progress | None = None) -> Outcome:
    """`tlm.execution.execute.execute`, with a child run of what was made; a hit has none. Raises what `execute` raises."""
    run = StepRun(tracking, step, runtime)
    try:
        outcome = execute(step, runtime, progress=progress, points=run.points, before_work=run.start)
        if outcome.status == "executed":
            run.finish(outcome.record)
    except BaseException as error:
        run.fail(error)
        raise
    finally:
        if not processes.is_here(processes.folder_of(runtime), tracking.process):
            tracking.outbox.drain(HURRY, HURRY)  # this process may end before the study does
    return outcome
