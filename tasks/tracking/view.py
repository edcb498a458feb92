"""MLflow as a view of the records of one store: which run made an artifact, and what of it MLflow still lacks."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from tasks.tracking import database, processes, runs
from tasks.tracking.connecting import experiments
from tasks.tracking.recorded import mark, miss_tags, recorded_parent, recorded_run, started
from tlm.artifacts.record import Record
from tlm.artifacts.step import Step
from tlm.artifacts.store import Artifact, ArtifactStore

PARENT = "mlflow.parentRunId"
PROCESS = "tlm.process"
"""Tag of a study's run that is under way: the note of its process (`tasks.tracking.processes`)."""
FROM_RECORD = "tlm.from_record"
"""Tag of a run that was made from a record afterwards and could not be given its own id: the id that the record names."""
NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


@dataclass(frozen=True)
class View:
    """MLflow, our experiments in it, and one store. `processes` is the folder of the notes of this home."""

    client: MlflowClient
    uri: str
    store: ArtifactStore
    processes: Path
    found: dict[str, str] = field(default_factory=dict)
    """Key → the run that made the artifact, for those that have been asked for."""

    @cached_property
    def experiments(self) -> list[str]:
        return experiments(self.client)

    def run(self, run_id: str) -> Run | None:
        """The run with this id, None if there is none."""
        try:
            return self.client.get_run(run_id) if run_id else None
        except MlflowException as error:
            if error.error_code in NOT_THERE:
                return None
            raise

    def search(self, query: str) -> list[Run]:
        return list(runs.search(self.client, self.experiments, query))

    # --- the run that made an artifact ---

    def maker(self, record: Record) -> Run | None:
        """The run that made an artifact, None if MLflow does not know it."""
        recorded = recorded_run(record)
        if recorded and (run := self.run(recorded)):
            return run
        return self.marked(mark(record), f"and tags.step_key = '{record.key}'")

    def marked(self, known: str, more: str = "") -> Run | None:
        """The run that was made again, under another id than the `known` one; `more`: of the query."""
        found = self.search(f"tags.`{FROM_RECORD}` = '{known}' {more}")
        return found[-1] if found else None

    def maker_id(self, record: Record) -> str:
        """The id of that run; that which the record names, if MLflow knows none; "" if it names none."""
        if record.key not in self.found:
            recorded = recorded_run(record)
            made = None if recorded else self.maker(record)
            self.found[record.key] = made.info.run_id if made else recorded
        return self.found[record.key]

    def made(self, record: Record) -> str:
        """As `maker_id`; a run that MLflow did not answer to when it was to be opened is opened now, and completed."""
        if record.key not in self.found and not recorded_run(record):
            self.found[record.key] = self.ensure(record)
        return self.maker_id(record)

    def complete(self, run: Run, record: Record) -> None:
        """Log what a run lacks of an artifact that it made, and end it as finished.

        If the artifact has been removed, or made again by another run, it is ended as killed. A run that the user has
        removed from MLflow stays so.
        """
        if run.info.lifecycle_stage != "active":
            return
        found = self.store.inspect(record.ref, verify=False)
        there = found.record if found.status == "complete" else None
        if there is None or (there.created, there.outputs) != (record.created, record.outputs):
            self.client.set_terminated(run.info.run_id, "KILLED")
            return
        artifact, inputs = Artifact(self.store, there), self.inputs(record)
        datasets = run.inputs.dataset_inputs if run.inputs else []
        content = runs.results(artifact, self.client, run)
        if not run.data.params or len(datasets) < min(len(inputs), runs.MOST_INPUTS):
            content = self.identity(record, inputs) + content
        runs.log_content(self.client, run.info.run_id, content)
        runs.log_files(self.client, run, artifact)
        runs.finish(self.client, run, record)

    def add(self, record: Record, parent: Run) -> Run:
        """Open the run of an artifact whose maker MLflow does not know, under its own id if it can be had."""
        recorded = recorded_run(record)
        tags = {**miss_tags(record), FROM_RECORD: mark(record)}
        info = parent.info
        run = runs.create(
            self.client, info.experiment_id, info.run_id, record, record.provenance, tags, start=started(record)
        )
        return self.client.get_run(renamed(self.uri, run.info.run_id, recorded))

    def ensure(self, record: Record) -> str:
        """Complete the run that made an artifact if it is not finished, and return its id, or that in the record.

        A run that was never opened is opened now if MLflow knows its parent: in another MLflow the record's ids mean
        nothing, and `tlm track` puts it in order. What a living process is at is left to it.
        """
        self.processes.mkdir(parents=True, exist_ok=True)  # the run may be another home's
        with FileLock(self.processes / ".completing.lock"):  # two that see it at the same time log one model, not two
            run = self.maker(record)
            if run is None:
                parent = self.run(recorded_parent(record))
                if parent is None:
                    return recorded_run(record)
                run = self.add(record, parent)
            if self.is_left(run):
                self.complete(run, record)
        return str(run.info.run_id)

    def is_left(self, run: Run, *, others: bool = False) -> bool:
        """Whether a run is unfinished and nobody is at it.

        Args:
            others: whether to say so of a run that another home opened, of which nobody here knows.
        """
        if run.info.status == "FINISHED" or run.info.lifecycle_stage != "active":
            return False
        top: Run | None = run
        while top and PARENT in top.data.tags:
            top = self.run(top.data.tags[PARENT])
        process = top.data.tags.get(PROCESS) if top else None
        alive = process is not None and processes.is_alive(self.processes, process)
        return alive is False or (alive is None and others)

    # --- what else a step's run has ---

    def inputs(self, made: Step | Record) -> dict[str, Record]:
        """The records of those inputs that are still there."""
        found = {name: self.store.inspect(ref, verify=False) for name, ref in made.inputs.items()}
        return {name: each.record for name, each in found.items() if each.status == "complete" and each.record}

    def identity(self, made: Step | Record, inputs: Mapping[str, Record] | None = None) -> runs.Content:
        """What defines the step: parameters and inputs, with the runs that made them."""
        inputs = self.inputs(made) if inputs is None else inputs
        makers = {}
        if len(inputs) <= runs.MOST_INPUTS:
            makers = {name: run for name, record in inputs.items() if (run := self.maker_id(record))}
        return runs.identity(made, inputs, makers)


def renamed(uri: str, run_id: str, wanted: str) -> str:
    """Give a new run the id that it had in an earlier MLflow, if this one's database is at hand; return its id then."""
    if not wanted or not (file := database.path_of(uri)):
        return run_id
    try:
        database.rename_run(file, run_id, wanted, FROM_RECORD)
    except sqlite3.IntegrityError:  # a run with that id was removed by the user, and can still be restored
        return run_id
    return wanted
