"""What a study's run shows of its report: a description, figures to chart, a table. None of it is computed here."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from pydantic import ValidationError

from tlm.artifacts.dry_runs import is_of_dry_run
from tlm.artifacts.store import Artifact
from tlm.report.formatting import Table, markdown_table
from tlm.report.headline import curves, figures, headline
from tlm.report.saved import FINDINGS_FILE, SUMMARY_FILE, load_findings, load_summary
from tlm.study.dry_run import DRY_RUN

TABLE = "summary.csv"
"""The summary as MLflow shows it as a table."""


@dataclass(frozen=True)
class StudyPage:
    """Parts that an older report cannot give are empty."""

    note: str = ""
    """Markdown: whether it is of a dry run, the verdicts, then the headline table."""
    figures: dict[str, float] = field(default_factory=dict)
    """Metrics: accuracies and gaps as shares."""
    curves: dict[str, dict[int, float]] = field(default_factory=dict)
    """Metrics by step, which is Ws: accuracies as shares."""
    table: str = ""
    """The content of `TABLE`."""


def study_page(report: Artifact, room: int) -> StudyPage:
    """The page of a report.

    Args:
        room: of the note, in characters; rows of its table that do not fit are counted.
    """
    said = f"**{DRY_RUN}**" if is_of_dry_run(report.record) else ""
    with suppress(KeyError, ValidationError):  # an older report has none, or others
        said = "\n\n".join(part for part in (said, verdicts(report)) if part)
    try:
        frame = load_summary(report.path(SUMMARY_FILE))
        table, found, by_ws = headline(frame), figures(frame), curves(frame)
    except KeyError:  # an older report has no summary, or another
        return StudyPage(said[:room])
    return StudyPage(_note(said, table, room), found, by_ws, frame.to_csv(index=False))


def verdicts(report: Artifact) -> str:
    """The verdicts of a report in Markdown, a line each; empty if its study asks nothing."""
    found = load_findings(report.path(FINDINGS_FILE)).verdicts
    return "\n".join(f"- **{verdict.outcome}**: {verdict.claim}: {verdict.figure}" for verdict in found)


def _note(said: str, table: Table, room: int) -> str:
    head, rows = (lines := markdown_table(table, "").splitlines())[:2], lines[2:]
    for shown in range(len(rows), 0, -1):
        left = f"\n\n{len(rows) - shown} more rows are in {TABLE}." if shown < len(rows) else ""
        parts = (said, "\n".join([*head, *rows[:shown]]), table.note)
        note = "\n\n".join(part for part in parts if part) + left
        if len(note) <= room:
            return note
    return said[:room]
