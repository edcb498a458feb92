"""What it takes to reach an accuracy: curves read backwards, bounds beyond their ends, intervals that hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tlm.statistics.reaching import Curve, Reached, cost_ratio, cost_to_reach

ITEMS = 40
Right = NDArray[np.bool_]


def right(accuracy: float, items: int = ITEMS) -> Right:
    """One run that is right on just that share of the items."""
    return np.arange(items) < round(accuracy * items)


def of(costs: list[float], accuracies: list[float]) -> Curve:
    return [(cost, right(accuracy)) for cost, accuracy in zip(costs, accuracies, strict=True)]


def value(costs: list[float], accuracies: list[float], target: float) -> float:
    return cost_to_reach(of(costs, accuracies), right(target), draws=100).estimate.value


def test_half_of_the_way_in_accuracy_is_the_geometric_mean() -> None:
    assert value([10_000, 40_000], [0.4, 0.6], 0.5) == pytest.approx(20_000)
    assert value([40_000, 10_000], [0.6, 0.4], 0.5) == pytest.approx(20_000), "in any order"
    assert value([10_000], [0.4], 0.4) == pytest.approx(10_000)


@pytest.mark.parametrize(("target", "bound", "end"), [(0.3, "<", 10_000), (0.8, ">", 90_000)])
def test_nothing_is_extrapolated(target: float, bound: str, end: float) -> None:
    found = cost_to_reach(of([10_000, 40_000, 90_000], [0.4, 0.6, 0.7]), right(target), draws=100)
    assert (found.bound, found.estimate.value) == (bound, pytest.approx(end))
    assert found.text(0).startswith(f"{bound} {end:,}")


def test_a_dip_is_levelled_to_a_plateau_whose_smallest_cost_counts() -> None:
    costs, accuracies = [1_000.0, 2_000.0, 4_000.0, 8_000.0], [0.2, 0.5, 0.3, 0.6]
    assert value(costs, accuracies, 0.4) == pytest.approx(2_000)
    assert value(costs, accuracies, 0.3) == pytest.approx(1_000 * 2**0.5)
    assert value(costs, accuracies, 0.5) == pytest.approx(4_000 * 2**0.5)


@given(
    st.lists(st.integers(0, 20).map(lambda n: n / 20), min_size=1, max_size=5), st.integers(0, 20), st.integers(0, 20)
)
def test_a_higher_accuracy_never_costs_less(accuracies: list[float], one: int, other: int) -> None:
    costs = [1_000.0 * 2**n for n in range(len(accuracies))]
    less, more = (value(costs, accuracies, target / 20) for target in sorted((one, other)))
    assert costs[0] * (1 - 1e-9) <= less <= more * (1 + 1e-9) <= costs[-1] * (1 + 1e-6)


def runs(accuracy: float, name: int, *, items: int = 1_000, seeds: int = 3) -> Right:
    """(seeds, items) with an expected accuracy, of items that are hard for all alike."""
    own = np.random.default_rng([name, round(1_000 * accuracy), items])
    hard = np.random.default_rng([name, items]).uniform(-0.15, 0.15, items)
    spread = own.normal(0, 0.01, (seeds, 1))
    return np.asarray(own.random((seeds, items)) < accuracy + spread + hard)


def two_recipes(name: int, factor: float, accuracies: tuple[float, ...] = (0.4, 0.5, 0.6)) -> Reached:
    """The slower one costs `factor` times the other for the same accuracy."""
    costs = [10.0 ** (n + 3) for n in range(len(accuracies))]
    fast = [(cost, runs(accuracy, name)) for cost, accuracy in zip(costs, accuracies, strict=True)]
    slow = [(factor * cost, runs(accuracy - 0.02, name)) for cost, accuracy in zip(costs, accuracies, strict=True)]
    return cost_ratio(fast, slow, draws=1_000)


def test_the_interval_of_a_ratio_holds_the_true_one() -> None:
    """The slow recipe ends at 58 %, which the fast one reaches after 0.8 of a factor of ten from its middle point."""
    true = 20 * 10**0.2
    found = [two_recipes(name, 20) for name in range(60)]
    assert np.mean([each.estimate.low <= true <= each.estimate.high for each in found]) > 0.9
    assert np.median([each.estimate.value for each in found]) == pytest.approx(true, rel=0.2)


def test_a_recipe_that_is_better_from_its_first_point_on_gives_a_bound_and_an_interval_without_end() -> None:
    fast = [(1e3, runs(0.7, 1)), (1e4, runs(0.8, 1))]
    slow = [(1e4, runs(0.4, 1)), (1e5, runs(0.5, 1))]
    found = cost_ratio(fast, slow)
    assert (found.bound, found.estimate.value) == (">", pytest.approx(100))
    assert math.isinf(found.estimate.high) and found.estimate.low == pytest.approx(100)
    back = cost_ratio(slow, fast)
    assert (back.bound, back.estimate.value, back.estimate.low) == ("<", pytest.approx(0.1), 0.0)


def test_one_seed_says_so_and_bad_costs_are_named() -> None:
    assert cost_to_reach([(1, runs(0.4, 1, seeds=1)), (2, runs(0.6, 1))], runs(0.5, 1)).text().endswith("(1 seed)")
    with pytest.raises(ValueError, match=r"costs are \[0\.0, 1\.0\]; give positive ones, each once"):
        cost_to_reach([(0, right(0.4)), (1, right(0.5))], right(0.4))
    with pytest.raises(ValueError, match="same items"):
        cost_to_reach([(1, right(0.4))], right(0.4, items=10))
