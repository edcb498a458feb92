"""When a difference is resolved, and when a verdict may rest on it."""

from __future__ import annotations

import numpy as np

from tlm.report.comparison import compare, judge
from tlm.report.findings import UNDECIDED
from tlm.statistics import difference_p_value, paired_bootstrap_p_value


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
    assert found.p_value == paired_bootstrap_p_value(a, b) > 0.05
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
