"""When a difference is resolved, and when a verdict may rest on it."""

from __future__ import annotations

import numpy as np
import pytest
from results.made_up import MadeUp, study

from tlm.report import comparison
from tlm.report.comparison import compare, judge
from tlm.report.findings import NOT_MEASURED, UNDECIDED, Verdict, tally
from tlm.results import ws_sweep
from tlm.statistics import Estimate, difference_p_value


def lucky(right: int, seeds: int, items: int, generator: np.random.Generator) -> np.ndarray:
    """Runs that are each right on just as many items, but on other ones."""
    runs = np.zeros((seeds, items), dtype=bool)
    for run in runs:
        run[generator.permutation(items)[:right]] = True
    return runs


def test_no_verdict_rests_on_seeds_that_agree_by_luck() -> None:
    generator = np.random.default_rng(0)
    a, b = lucky(104, 3, 200, generator), lucky(100, 3, 200, generator)
    assert difference_p_value(a, b) < 0.05, "the seeds alone are sure"
    (found,) = compare([("a", a, b)])
    assert found.p_value == comparison.paired_bootstrap_p_value(a, b) > 0.05
    assert found.resolved and not found.conclusive and judge(found, paper=False) == UNDECIDED


def test_a_verdict_rests_on_a_difference_that_both_bear_out() -> None:
    generator = np.random.default_rng(1)
    (found,) = compare([("a", lucky(160, 3, 200, generator), lucky(100, 3, 200, generator))])
    assert found.conclusive and judge(found, paper=False) == "yes"


def test_one_seed_has_no_p_value() -> None:
    generator = np.random.default_rng(2)
    (found,) = compare([("a", lucky(160, 1, 200, generator), lucky(100, 1, 200, generator))])
    assert found.p_value is None and not found.resolved and not found.conclusive
    assert found.text.endswith("(1 seed), not resolved")


# --- how wide a verdict's interval is ---


def interval(half: float, seeds: int = 3) -> Estimate:
    return Estimate(0.01, 0.01 - half, 0.01 + half, half, seeds, "t over seeds and items")


def test_a_verdict_carries_its_half_width_in_points_and_a_pure_number_as_it_is() -> None:
    assert Verdict("a", "yes", "…", estimate=interval(0.024)).half_width == pytest.approx(2.4)
    assert Verdict("a", "yes", "…", estimate=interval(0.31), unit="R²").half_width == 0.31
    assert Verdict("a", UNDECIDED, "…", estimate=interval(0.024, seeds=1)).half_width is None
    assert Verdict("a", NOT_MEASURED, "…").half_width is None


def test_a_tally_counts_a_no_as_decided_and_says_how_wide_the_others_are() -> None:
    decided = [
        Verdict("a", outcome, "…", estimate=interval(0.5)) for outcome in ("yes", "no", "reproduced", "not reproduced")
    ]
    assert tally(decided) == "4 of 4 verdicts are decided."
    wide = [Verdict("b", UNDECIDED, "…", estimate=interval(half)) for half in (0.011, 0.0243)]
    assert tally([*decided, *wide]) == "4 of 6 verdicts are decided; of the others the widest half-width is 2.4 points."
    more = [
        *wide,
        Verdict("c", UNDECIDED, "…", estimate=interval(1.02), unit="R²"),
        Verdict("d", UNDECIDED, "…", estimate=interval(0.1, seeds=1)),
        Verdict("e", NOT_MEASURED, "n/a"),
    ]
    assert tally(more) == (
        "0 of 5 verdicts are decided; of the others the widest half-width is 2.4 points, 1.02 R², "
        "1 without an interval, 1 not measured."
    )


def test_every_verdict_that_is_not_decided_says_why_or_how_wide() -> None:
    """Of each analysis that can be made up in a line: what was compared has an estimate, so that it can be tallied."""
    made = MadeUp(study()).finetuned("topics", "deep", 0, 0.5).finetuned("topics", "deep", 400, 0.502)
    findings = ws_sweep.analyse(made.evidence())
    assert all((v.estimate is None) == (v.outcome == NOT_MEASURED) for v in findings.verdicts)
