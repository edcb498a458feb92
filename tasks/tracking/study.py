"""A study in MLflow: a parent run, opened before the work and completed after it (`step_run`: a child for each step).

Work waits for MLflow only where it needs an id. All else goes to an outbox, and what does not get through follows from the
records: MLflow can be down from the first step to the last, and the study ends as it would have.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from pydantic import BaseModel, ConfigDict

from tasks.answering import shown
from tasks.tracking import database, processes, runs
from tasks.tracking.connecting import EXPERIMENT, FAULTS, experiment_id, prepare, set_up
from tasks.tracking.described import named
from tasks.tracking.ending import Ending, end_study
from tasks.tracking.outbox import HURRY, PATIENCE, Outbox
from tasks.tracking.registry import register_models
from tasks.tracking.settling import Settled, settle, settle_steps
from tasks.tracking.view import FROM_RECORD, NOT_THERE, PROCESS, View, renamed
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.machine.runtime import Runtime
from tlm.study.dry_run import is_dry_run

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
    is_dry = is_dry_run(content)
    tags = {"study": name, **runs.dry_run_tag(is_dry), **runs.commit_tags(provenance)}
    tracking = open_run(runtime, name, tags, command=command, run_name=named(name, is_dry_run=is_dry))
    tracking.outbox.put(lambda client: client.log_dict(tracking.parent_run_id, dict(content), "study.json"))
    return tracking


def open_run(
    runtime: Runtime,
    name: str,
    tags: Mapping[str, str],
    *,
    command: str,
    experiment: str = EXPERIMENT,
    run_name: str = "",
    known: str | None = None,
) -> Tracking:
    """Open a run that belongs to this process, and settle what earlier processes left running.

    Args:
        experiment: the name of its experiment.
        run_name: what MLflow calls it, if that is not its name.
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
        run_id = open_or_reopen(client, uri, where, run_name or name, {**tags, PROCESS: process}, known)
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
