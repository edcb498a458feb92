"""A slope over tasks: its value, and an interval that holds the truth as often as it says."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from tlm.statistics import difference
from tlm.statistics.trend import Term, trend, weighted_sum

ITEMS = (80, 160, 320, 640)
X = np.array([1.0, 2.0, 3.0, 4.0])


def draw(
    generator: np.random.Generator, accuracies_S: NDArray[np.float64], ease_N: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """(S, N)"""
    noise_SN = generator.standard_normal((len(accuracies_S), len(ease_N)))
    return 0.8 * ease_N + 0.6 * noise_SN < norm.ppf(accuracies_S)[:, None]


def measured(seed: int, *, slope: float = 0.0, shared: float = 0.0, seeds: int = 3) -> list[list[Term]]:
    """Gaps that rise by `slope` with each unit of X; each seed's own rises by ± `shared` more, on every task."""
    generator = np.random.default_rng(seed)
    own_S = shared * generator.standard_normal(seeds)
    found = []
    for x, items in zip(X, ITEMS, strict=True):
        ease_N = generator.standard_normal(items)
        expected_S = 0.6 + (slope + own_S) * (x - X.mean()) + 0.01 * generator.standard_normal(seeds)
        scratch_S = 0.5 + 0.01 * generator.standard_normal(seeds)
        pretrained, scratch = (draw(generator, each, ease_N) for each in (expected_S, scratch_S))
        found.append([Term(1, pretrained, "pretrained"), Term(-1, scratch, "scratch")])
    return found


def test_value_is_the_least_squares_slope() -> None:
    terms = measured(0, slope=0.05)
    gaps = [np.mean(pretrained.correct) - np.mean(scratch.correct) for pretrained, scratch in terms]
    found = trend(X, terms)
    assert found.value == pytest.approx(np.polyfit(X, gaps, 1)[0])
    assert found.seeds == 3 and found.resolved and found.low < 0.05 < found.high


def test_two_terms_of_one_task_are_a_difference() -> None:
    (one, two), *_ = measured(1)
    found = weighted_sum([one, Term(-1, two.correct, two.system)])
    expected = difference(one.correct, two.correct)
    assert (found.value, found.half_width) == pytest.approx((expected.value, expected.half_width))


def test_terms_of_one_system_share_their_seeds() -> None:
    (one, _), *_ = measured(1)
    assert weighted_sum([one, Term(-1, one.correct, one.system)]).half_width == 0
    assert weighted_sum([one, Term(-1, one.correct, "another")]).half_width > 0


@pytest.mark.parametrize("shared", [0.0, 0.02])
def test_interval_holds_a_slope_of_nothing(shared: float) -> None:
    """Also where a seed moves every task at once, which scatter about the line does not show."""
    missed = sum(trend(X, measured(seed, shared=shared)).resolved for seed in range(300))
    assert missed <= 27  # 5 % of 300 is 15; more than 27 happens once in 500 times


def test_nested_fine_tunings_count_as_their_pre_training() -> None:
    terms = measured(2)
    twice = [[Term(t.weight, np.stack([t.correct, t.correct], axis=1), t.system) for t in task] for task in terms]
    assert trend(X, twice).half_width == pytest.approx(trend(X, terms).half_width)


def test_one_seed_is_never_resolved() -> None:
    assert not trend(X, measured(0, slope=0.1, seeds=1)).resolved


def test_what_does_not_match_is_an_error() -> None:
    terms = measured(0)
    with pytest.raises(ValueError, match="tasks that differ"):
        trend(np.ones(4), terms)
    with pytest.raises(ValueError, match="at least 3"):
        trend(X[:2], terms[:2])
    with pytest.raises(ValueError, match="lengths differ"):
        trend(X, terms[:3])
    with pytest.raises(ValueError, match="3 seeds here and 2 there"):
        trend(X, [*terms[:3], [Term(t.weight, np.asarray(t.correct)[:2], t.system) for t in terms[3]]])
    with pytest.raises(ValueError, match="items"):
        weighted_sum([terms[0][0], terms[1][1]])
