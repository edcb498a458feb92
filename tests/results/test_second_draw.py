"""A second draw of items: whether the gaps repeat."""

from __future__ import annotations

import pytest
from made_up import MadeUp, outcome, study

from tlm.report.findings import Findings, Outcome
from tlm.results.second_draw import analyse


def drawn(first: float, second: float | None, *, seeds: int = 3) -> Findings:
    """The gap on the first draw, and on the second."""
    made = MadeUp(study(sizes=(0, 400), tasks=("topics", "topics-second")), items=3_000)
    for task, gap in (("topics", first), ("topics-second", second)):
        if gap is not None:
            made.finetuned(task, "shallow", 0, 0.5, seeds=seeds, spread=0.003)
            made.finetuned(task, "shallow", 400, 0.5 + gap, seeds=seeds, spread=0.003)
    return analyse(made.evidence())


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(0.1, 0.1, "yes"), (0.1, -0.1, "no"), (0.1, 0.3, "no"), (0.0, 0.0, "undecided at this scale"),
     (0.1, None, "not measured")],
)  # fmt: skip
def test_a_gap_repeats_if_both_draws_establish_it_and_are_not_told_apart(
    first: float, second: float | None, expected: Outcome
) -> None:
    findings = drawn(first, second)
    assert outcome(findings, "gap of shallow on topics", "repeats") == expected
    assert outcome(findings, "gap of deep on topics") == "not measured"


def test_one_seed_repeats_nothing() -> None:
    assert outcome(drawn(0.2, 0.2, seeds=1), "gap of shallow on topics") == "undecided at this scale"


def test_the_interval_of_the_difference_is_that_of_both_gaps() -> None:
    findings = drawn(0.1, 0.12)
    verdict = next(each for each in findings.verdicts if "shallow" in each.claim)
    assert verdict.half_width is not None and 0 < verdict.half_width < 6 and "after +" in verdict.figure
    row = next(row for row in findings.tables[0].rows if row[1].text == "shallow")
    assert row[-1].text in verdict.figure


def test_a_study_without_a_second_draw_is_not_measured() -> None:
    assert [verdict.outcome for verdict in analyse(MadeUp(study()).evidence()).verdicts] == ["not measured"]
