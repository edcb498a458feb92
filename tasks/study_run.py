"""The MLflow run of a whole study, from before its first step to its end, whatever that is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from tasks.tracking import Tracking, close_study, open_study
from tlm.artifacts.provenance import provenance
from tlm.execution.process import is_cancellation
from tlm.machine.interruption import closing
from tlm.machine.runtime import Runtime


@dataclass
class StudyRun:
    """What is logged when it ends: numbers always, files and a note (Markdown) unless it failed."""

    tracking: Tracking
    numbers: dict[str, float] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    note: str = ""


@contextmanager
def study_run(runtime: Runtime, name: str, content: Mapping[str, Any]) -> Iterator[StudyRun]:
    """Open a study's run and end it with the block: FINISHED, FAILED, or KILLED if it was interrupted.

    What goes wrong in ending a run that failed never stands in for the reason why it failed.
    """
    run = StudyRun(open_study(runtime, name, content, provenance()))
    with closing(lambda: cancel_study(run.tracking)):
        try:
            yield run
        except BaseException as error:
            with suppress(Exception):
                if is_cancellation(error):
                    cancel_study(run.tracking)
                else:
                    close_study(run.tracking, failed=True, files=[], numbers=run.numbers)
            raise
        close_study(run.tracking, failed=False, files=run.files, numbers=run.numbers, note=run.note)


def cancel_study(tracking: Tracking) -> None:
    """End a study's run, and those of its steps that have not ended, as killed."""
    client = MlflowClient(tracking_uri=tracking.uri)
    client.set_terminated(tracking.parent_run_id, "KILLED")
    under_way = f"tags.`mlflow.parentRunId` = '{tracking.parent_run_id}' and attributes.status = 'RUNNING'"
    for run in client.search_runs([tracking.experiment_id], under_way):
        client.set_terminated(run.info.run_id, "KILLED")
