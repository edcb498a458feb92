"""What irrelevant tokens do: what is found is what was put in, and only of sets that can tell."""

from __future__ import annotations

import pytest
from made_up import MadeUp, study

from tlm.report.evidence import Evidence
from tlm.results.irrelevant_tokens import analyse

LEVELS = [
    {"kind": "sampled", "task": "topics", "ws": 400, "sampler": "irrelevant", "level": level} for level in (0, 0.5, 1)
]
LABELS = ("irrelevant-0", "irrelevant-0.5", "irrelevant-1")
COUNTS = {None: 300, "irrelevant-0": 100, "irrelevant-0.5": 300, "irrelevant-1": 900}


def measured(
    *accuracies: float,
    random: float = 0.6,
    coverage: tuple[float, ...] = (0.9, 0.9, 0.9),
    counts: dict[str | None, int] = COUNTS,
    seeds: int = 3,
    skip: str = "",
) -> Evidence:
    made = MadeUp(study(sizes=(0, 400), treatments=LEVELS, treatment_architectures=("shallow",)), items=2_000)
    for ws, accuracy in ((0, 0.3), (400, random)):
        made.finetuned("topics", "shallow", ws, accuracy, seeds=seeds, spread=0.004)
    for label, accuracy in zip(LABELS, accuracies, strict=True):
        if label != skip:
            made.finetuned("topics", "shallow", 400, accuracy, treatment=label, seeds=seeds, spread=0.004)
    for label, covered in zip((None, *LABELS), (0.8, *coverage), strict=True):
        # 100 occurrences of a token that the task uses, and those that it does not; one token is in the task alone.
        made.overlap("topics", 400, label, [(100, 7), (counts[label], 0), (0, 3)], type_overlap=covered)
    return made.evidence()


def test_tokens_that_cost_accuracy(laid_out: None) -> None:
    findings = analyse(measured(0.70, 0.65, 0.58))
    (verdict,) = findings.verdicts
    assert verdict.outcome == "yes" and verdict.figure.startswith("−1") and verdict.links
    assert "irrelevant occurrences 50.0 to 90.0 %, 90.0 % of types covered by each" in verdict.figure
    (table,) = findings.tables
    assert [row[4].text for row in table.rows] == ["75.0", "50.0", "75.0", "90.0"]
    assert [row[3].text for row in table.rows] == ["400", "200", "400", "1,000"]
    against_random = [row[7].text for row in table.rows]
    assert against_random[0] == "n/a"
    assert float(against_random[1].split()[0]) == pytest.approx(10, abs=3)  # 70 − 60
    assert [row[8].text for row in table.rows][:3] == ["n/a"] * 3
    (plot,) = findings.plots
    assert plot.png


def test_tokens_that_help_are_a_no() -> None:
    assert [v.outcome for v in analyse(measured(0.58, 0.65, 0.70)).verdicts] == ["no"]


def test_tokens_that_do_nothing_resolve_nothing() -> None:
    assert [v.outcome for v in analyse(measured(0.65, 0.65, 0.65)).verdicts] == ["undecided at this scale"]


def test_one_seed_resolves_nothing() -> None:
    assert [v.outcome for v in analyse(measured(0.8, 0.6, 0.4, seeds=1)).verdicts] == ["undecided at this scale"]


def test_unequal_coverage_gives_no_answer() -> None:
    (verdict,) = analyse(measured(0.70, 0.65, 0.58, coverage=(0.95, 0.9, 0.9))).verdicts
    assert verdict.outcome == "not measured" and "90.0 to 95.0 %" in verdict.figure


def test_levels_that_vary_nothing_give_no_answer() -> None:
    (verdict,) = analyse(measured(0.70, 0.65, 0.58, counts=dict.fromkeys(COUNTS, 300))).verdicts
    assert verdict.outcome == "not measured" and "does not rise" in verdict.figure


def test_what_is_missing_is_not_measured() -> None:
    for evidence in (
        measured(0.7, 0.65, 0.58, skip="irrelevant-1"),
        MadeUp(study(treatments=LEVELS, treatment_architectures=("shallow",))).evidence(),
        MadeUp(study()).evidence(),
        MadeUp(study(treatments=LEVELS[:1], treatment_architectures=("shallow",))).evidence(),
    ):
        assert [v.outcome for v in analyse(evidence).verdicts] == ["not measured"]
