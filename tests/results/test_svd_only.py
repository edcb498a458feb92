"""Beside every gap: what language modelling adds to the word vectors of the same paragraphs."""

from __future__ import annotations

import pytest
from made_up import MadeUp, outcome, study

from tlm.report.findings import Findings
from tlm.report.study_systems import svd_only
from tlm.results import find

SHALLOW = svd_only("shallow")


def found(svd: float | None, pretrained: float = 0.6, *, analysis: str = "ws-sweep", arm: bool = True) -> Findings:
    """Scratch at 40 %; at Ws = 400 pre-trained, and from word vectors alone."""
    made = MadeUp(study(sizes=(0, 400), analysis=analysis, svd_arm=arm), items=2_000)
    made.finetuned("topics", "shallow", 0, 0.4).finetuned("topics", "shallow", 400, pretrained)
    if svd is not None:
        made.finetuned("topics", SHALLOW, 400, svd)
    return find(made.evidence())


@pytest.mark.parametrize(
    ("svd", "expected"), [(0.5, "yes"), (0.7, "no"), (0.6, "undecided at this scale"), (None, "not measured")]
)
def test_what_language_modelling_adds_is_a_verdict_of_its_own(svd: float | None, expected: str) -> None:
    assert outcome(found(svd), "SVD only", "400 paragraphs", "shallow on topics") == expected
    assert outcome(found(svd), "SVD only", "deep on topics") == "not measured"


def test_the_table_says_which_share_of_the_gap_the_vectors_have() -> None:
    table = next(table for table in found(0.5).tables if "SVD only" in table.title)
    row = next(row for row in table.rows if row[1].text == "shallow")
    svd, over_scratch, added, share = (cell.text for cell in row[3:])
    assert 45 < float(svd.split(" ")[0]) < 55 and over_scratch.startswith("+") and added.startswith("+")
    assert 35 < float(share.split(" ")[0]) < 65 and "3 seeds" in share


def test_without_the_arm_there_is_neither_verdict_nor_table() -> None:
    findings = found(0.5, arm=False)
    assert not any("SVD only" in each.claim for each in findings.verdicts)
    assert not any("SVD only" in table.title for table in findings.tables)


def test_a_study_that_asks_for_no_gap_has_the_table_alone() -> None:
    findings = found(0.5, analysis="missing-tokens")
    assert not any("SVD only" in each.claim for each in findings.verdicts)
    assert any("SVD only" in table.title for table in findings.tables)


def test_the_sweeps_plots_show_the_arm_beside_the_models(really_drawn: None) -> None:
    plots = {plot.name: plot for plot in found(0.5).plots}
    assert SHALLOW in plots["made-up-topics"].svg
