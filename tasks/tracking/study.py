"""A study in MLflow: a parent run, a child for each step, opened before the work and completed after it.

Work waits for MLflow only where it needs an id. All else goes to an outbox, and what does not get through follows from the
records: MLflow can be down from the first step to the last, and the study ends as it would have.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient
from mlflow.entities import Run, RunTag
from mlflow.exceptions import MlflowException
from pydantic import BaseModel, ConfigDict

from tasks.answering import shown
from tasks.tracking import database, processes, runs
from tasks.tracking.connecting import EXPERIMENT, FAULTS, experiment_id, prepare, set_up
from tasks.tracking.ending import Ending, end_study
from tasks.tracking.outbox import HURRY, PATIENCE, Outbox
from tasks.tracking.registry import register_models
from tasks.tracking.settling import Settled, settle, settle_steps
from tasks.tracking.view import FROM_RECORD, NOT_THERE, PROCESS, View, renamed
from tlm.artifacts.provenance import code_version
from tlm.artifacts.record import Record, device_of
from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.execution.execute import Outcome, Progress, execute
from tlm.execution.process import is_cancellation
from tlm.machine import interruption
from tlm.machine.runtime import Runtime
from tlm.stages import STAGES

if TYPE_CHECKING:
    from tlm.training.optimisation import Point

POINTS_SECONDS = 5.0
"""Between two looks at a curve in MLflow, at least."""

_outboxes: dict[str, Outbox] = {}
"""Of this process, by the note of the study."""
_outboxes_lock = threading.Lock()


class Tracking(BaseModel):
    """Where a study's runs go: small, so that tasks on other machines can be told."""

    model_config = ConfigDict(frozen=True)

    uri: str
    experiment_id: str
    parent_run_id: str
    study: str
    command: str
    """What made the run: run, import, export or tune."""
    process: str
    """The note of the process that opened it (`tasks.tracking.processes`)."""

    @property
    def outbox(self) -> Outbox:
        """This process's outbox for the study."""
        with _outboxes_lock:
            if self.process not in _outboxes:
                set_up()
                _outboxes[self.process] = Outbox(self.uri, partial(MlflowClient, tracking_uri=self.uri))
            return _outboxes[self.process]

    def view(self, client: MlflowClient, runtime: Runtime) -> View:
        store = ArtifactStore(runtime.artifacts)
        return View(client, self.uri, store, processes.folder_of(runtime))

    def recorded(self, run_id: str | None) -> dict[str, str]:
        """What a record keeps of its run: the id, if MLflow gave one, and where it belongs."""
        own = {"run_id": run_id, "experiment_id": self.experiment_id} if run_id else {}
        return {**own, "parent_run_id": self.parent_run_id, "study": self.study, "command": self.command}


def open_study(
    runtime: Runtime, name: str, content: Mapping[str, Any], provenance: Mapping[str, Any], *, command: str = "run"
) -> Tracking:
    """Create the study's parent run (and the database and experiment, the first time).

    What earlier processes left running is settled meanwhile.

    Args:
        content: of study.json.
        command: what makes the run: run, import or export.

    Raises:
        UserError: if MLflow does not answer, or if its database is not one that it can work with.
    """
    tags = {"study": name, **runs.commit_tags(provenance)}
    tracking = open_run(runtime, name, tags, command=command)
    tracking.outbox.put(lambda client: client.log_dict(tracking.parent_run_id, dict(content), "study.json"))
    return tracking


def open_run(
    runtime: Runtime,
    name: str,
    tags: Mapping[str, str],
    *,
    command: str,
    experiment: str = EXPERIMENT,
    known: str | None = None,
) -> Tracking:
    """Open a run that belongs to this process, and settle what earlier processes left running.

    Args:
        experiment: the name of its experiment.
        known: the id of the run, if it was opened before and goes on, and if MLflow still knows it.

    Raises:
        UserError: as `open_study`.
    """
    uri = prepare(runtime)
    folder = processes.folder_of(runtime)
    client = MlflowClient(tracking_uri=uri)
    process = ""
    try:
        process = processes.begin(folder, {"uri": shown(uri)})
        own_files = None if runtime.tracking_uri else runtime.mlflow_folder / experiment
        where = experiment_id(client, own_files, name=experiment)
        run_id = open_or_reopen(client, uri, where, name, {**tags, PROCESS: process}, known)
        processes.amend(folder, process, {"uri": shown(uri), "run": run_id})
    except FAULTS as error:
        processes.release(folder, process)
        raise UserError(f"MLflow at {shown(uri)} cannot be used: {database.first_line(error)}.") from error
    tracking = Tracking(
        uri=uri, experiment_id=where, parent_run_id=run_id, study=name, command=command, process=process
    )
    outbox = tracking.outbox
    outbox.put(lambda client: settle(tracking.view(client, runtime), outbox.tick))
    return tracking


def open_or_reopen(
    client: MlflowClient, uri: str, experiment_id: str, name: str, tags: Mapping[str, str], known: str | None
) -> str:
    """Open a run, or have the `known` one go on; return its id.

    If MLflow no longer knows it, because its database was removed, it is made again, under its id if that can be had.
    """
    if known:
        try:
            client.update_run(known, status="RUNNING")
            for tag, value in tags.items():
                client.set_tag(known, tag, value)
            return known
        except MlflowException as error:
            if error.error_code not in NOT_THERE:
                raise
        tags = {**tags, FROM_RECORD: known}
    run = client.create_run(experiment_id, run_name=name, tags=dict(tags))
    return renamed(uri, str(run.info.run_id), known or "")


def close_study(tracking: Tracking, runtime: Runtime, ending: Ending) -> None:
    """End the parent run, and wait until MLflow has been told everything, if it answers and is not slow.

    Whatever MLflow does, this raises nothing of it: the next run tells it the rest.
    """
    folder = processes.folder_of(runtime)
    ending = ending if ending.at else ending.model_copy(update={"at": runs.now()})
    note = {"uri": shown(tracking.uri), "run": tracking.parent_run_id, "ending": ending.model_dump(mode="json")}
    with suppress(OSError):  # a full disk
        processes.amend(folder, tracking.process, note)
    outbox = tracking.outbox
    outbox.put(lambda client: _end(tracking.view(client, runtime), tracking.parent_run_id, ending))
    if ending.report:
        outbox.put(lambda client: _register(tracking.view(client, runtime), tracking.parent_run_id, ending, runtime))
    left = outbox.drain(*_patience(tracking, ending))
    (processes.release if left else processes.end)(folder, tracking.process)
    with _outboxes_lock:
        _outboxes.pop(tracking.process, None)


def _patience(tracking: Tracking, ending: Ending) -> tuple[float, float]:
    """Of `Outbox.drain`: little if the study was interrupted, much of a database at hand, which is not lost."""
    if ending.status == "KILLED":
        return HURRY, HURRY
    return PATIENCE, PATIENCE * (10 if database.path_of(tracking.uri) else 1)


def _end(view: View, run_id: str, ending: Ending) -> None:
    """End the study's run, and those of its steps that are still open: an answer of MLflow's was lost, or a worker."""
    settle_steps(view, run_id, Settled())
    end_study(view, run_id, ending)


def _register(view: View, run_id: str, ending: Ending, runtime: Runtime) -> None:
    found = view.store.inspect(ending.report, verify=False) if ending.report else None
    if found and found.status == "complete" and found.record:
        register_models(view, run_id, found.record, runtime.artifacts)


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
