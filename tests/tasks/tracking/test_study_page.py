"""What a study's run shows of its report is what the report holds, cut where MLflow has no room."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from helpers import Mini, only

from tasks.tracking.study_page import study_page, verdicts
from tlm.artifacts.store import Artifact
from tlm.report.formatting import markdown_table
from tlm.report.headline import curves, figures, headline
from tlm.report.saved import SUMMARY_FILE, load_summary


def report_of(mini: Mini) -> Artifact:
    return mini.store.get(only(mini.plan, "report").ref)


def test_it_has_the_verdicts_the_headline_table_and_the_figures(mini: Mini) -> None:
    report = report_of(mini)
    frame = load_summary(report.path(SUMMARY_FILE))
    page = study_page(report, 8_000)
    assert page.note.startswith(verdicts(report)) and markdown_table(headline(frame), "") in page.note
    assert page.figures == figures(frame) and page.figures
    assert page.curves == curves(frame) and page.curves
    shown = pd.read_csv(io.StringIO(page.table))
    assert [*shown.columns] == [*frame.columns] and shown["pretrained"].tolist() == pytest.approx(
        [*frame["pretrained"]]
    )


def test_rows_without_room_are_counted(mini: Mini) -> None:
    report = report_of(mini)
    whole = study_page(report, 8_000).note
    for room in range(len(whole) - 1, 0, -50):
        note = study_page(report, room).note
        assert len(note) <= room and ("more rows are in summary.csv" in note or "|" not in note)
