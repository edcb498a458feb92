"""What dead processes left running in MLflow: ended, from the records where there are any."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mlflow.entities import Run
from pydantic import ValidationError

from tasks.answering import shown
from tasks.tracking import processes
from tasks.tracking.described import slug_of
from tasks.tracking.ending import Ending, Status, end_study
from tasks.tracking.view import PARENT, PROCESS, View
from tlm.artifacts.record import Record
from tlm.artifacts.step import ArtifactRef


@dataclass
class Settled:
    """How many runs were completed from records, and how many ended as killed."""

    completed: int = 0
    killed: int = 0

    def count(self, status: Status) -> None:
        if status == "KILLED":
            self.killed += 1
        else:
            self.completed += 1


def settle(view: View, tick: Callable[[], None] = lambda: None) -> Settled:
    """End what processes of this home left running when they died, or when MLflow did not answer to their end.

    A step's run is completed if its artifact's record names it. All others are killed, as is the run of a study that did
    not come to its end.

    Args:
        tick: called after each run.
    """
    settled = Settled()
    for name, note in processes.left_behind(view.processes):
        known = view.run(str(note.get("run", "")))
        opened = [known] if known else view.search(f"tags.`{PROCESS}` = '{name}'")
        if not opened and note.get("uri") not in (None, shown(view.uri)):
            continue  # it waits for the MLflow that it was opened in
        for parent in opened:
            settle_steps(view, parent.info.run_id, settled, tick)
            if parent.info.lifecycle_stage == "active":  # not removed by the user
                _settle_study(view, parent, note.get("ending"), settled)
            tick()
        processes.end(view.processes, name)
    return settled


def settle_steps(view: View, parent: str, settled: Settled, tick: Callable[[], None] = lambda: None) -> None:
    """End what is left running of a study's steps, or of a search's trials and theirs, once nobody is at them."""
    for run in view.search(f"tags.`{PARENT}` = '{parent}' and attributes.status = 'RUNNING'"):
        if "step_key" not in run.data.tags:
            settle_steps(view, run.info.run_id, settled, tick)
        settle_step(view, run, settled)
        tick()


def settle_step(view: View, run: Run, settled: Settled) -> None:
    """End the run of one step, or trial, that nobody is at, and count it."""
    record = made_by(view, run)
    if record is None:
        view.client.set_terminated(run.info.run_id, "KILLED")
        settled.count("KILLED")
        return
    view.complete(run, record)
    settled.count("FINISHED")


def _settle_study(view: View, run: Run, ending: Any, settled: Settled) -> None:
    try:
        known = Ending.model_validate(ending)
    except ValidationError:  # it did not come to its end
        known = Ending(status="KILLED")
    end_study(view, run.info.run_id, known)
    settled.count(known.status)


def made_by(view: View, run: Run) -> Record | None:
    """The record of the artifact that a step's run made, if it is still there."""
    tags = run.data.tags
    slug = slug_of(run.info.run_name)
    with suppress(ValidationError):
        ref = ArtifactRef(stage=tags.get("stage", ""), key=tags.get("step_key", ""), slug=slug)
        found = view.store.inspect(ref, verify=False)
        if found.status == "complete" and found.record:
            return found.record if run.info.run_id == view.maker_id(found.record) else None
    return None
