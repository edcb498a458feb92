"""How the run of a study ends in MLflow: its numbers, and what it shows of its report."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from tasks.logged_files import is_logged
from tasks.tracking import runs
from tasks.tracking.connecting import NOTE
from tasks.tracking.hits import log_hits
from tasks.tracking.study_page import TABLE, StudyPage, study_page
from tasks.tracking.view import PROCESS, View
from tlm.artifacts.step import ArtifactRef
from tlm.artifacts.store import Artifact
from tlm.report.saved import FINDINGS_FILE, SUMMARY_FILE

SHOWN_FILES = ("report.html", "report.md", FINDINGS_FILE, SUMMARY_FILE)
"""Of the report, beside the study's run in MLflow."""


Status = Literal["FINISHED", "FAILED", "KILLED"]


class Ending(BaseModel):
    """How a study ended; kept in the note of its process until MLflow knows it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: Status
    at: int | None = None
    """Milliseconds since 1970; None: now."""
    numbers: dict[str, float] = {}
    """Metrics of the run."""
    report: ArtifactRef | None = None
    hits: tuple[ArtifactRef, ...] = ()
    """What the study found already made, each under the name that it has there."""


def end_study(view: View, run_id: str, ending: Ending) -> None:
    """Log how a study ended and end its run. Safe to call again. A report that is no longer there is left out."""
    client, page = view.client, StudyPage()
    found = view.store.inspect(ending.report, verify=False) if ending.report else None
    if found and found.record and found.status == "complete":
        report = Artifact(view.store, found.record)
        for name in (name for name in SHOWN_FILES if name in report.record.outputs and is_logged(report.record, name)):
            client.log_artifact(run_id, str(report.path(name)), "markdown" if name.endswith(".md") else None)
        page = study_page(report, runs.TAG_LIMIT)
        if page.note:
            client.set_tag(run_id, NOTE, page.note)
        if page.table:
            client.log_text(run_id, page.table, TABLE)
    log_hits(view, run_id, ending.hits)
    if numbers := {**page.figures, **ending.numbers}:
        runs.log_metrics(client, run_id, numbers, ending.at or runs.now())
    points = [(ws, name, value) for name, curve in page.curves.items() for ws, value in curve.items()]
    runs.log_points(client, run_id, points, ending.at or runs.now())
    client.set_terminated(run_id, ending.status, end_time=ending.at)
    run = client.get_run(run_id)
    if PROCESS in run.data.tags:
        client.delete_tag(run_id, PROCESS)
