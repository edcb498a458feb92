"""Beside every answer stands what the task yields without a language model."""

from __future__ import annotations

from made_up import MadeUp, study

from tlm.report.evidence import Evidence
from tlm.results import ANALYSES, find
from tlm.results.baselines import baseline_table
from tlm.statistics import mean_accuracy


def test_a_task_has_the_accuracy_of_each_baseline_with_an_interval_over_items() -> None:
    made = (
        MadeUp(study(tasks=("topics", "relations")))
        .baseline("topics", "tfidf", 0.6)
        .baseline("topics", "majority", 0.3)
    )
    evidence = made.baseline("relations", "tfidf", 0.5).evidence()
    (table,) = baseline_table(evidence)
    assert table.columns == ("Task", "majority class, %", "TF-IDF, %")
    measured = [evidence.baseline("topics", name) for name in ("majority", "tfidf")]
    expected = [mean_accuracy(correct_N).text() for correct_N in measured if correct_N is not None]
    assert [cell.text for cell in table.rows[0]] == ["topics", *expected]
    assert [cell.text for cell in table.rows[1]][:2] == ["relations", "not measured"]
    assert all("no seed" in text and "±" in text for text in expected)


def test_a_study_without_baselines_has_no_such_table() -> None:
    assert baseline_table(MadeUp(study(baselines=())).evidence()) == []


def test_every_analysis_comes_with_it() -> None:
    nothing = MadeUp(study()).evidence().connection
    for analysis in ANALYSES:
        findings = find(Evidence(nothing, study(analysis=analysis)))
        assert findings.tables[-1].title.startswith("Baselines"), analysis
