"""The difference of two estimates on different items."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlm.statistics import Estimate
from tlm.statistics.independent import independent_difference, independent_p_value


def estimate(value: float, half: float, seeds: int = 3) -> Estimate:
    return Estimate(value, value - half, value + half, half, seeds, "t over seeds and items")


@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(0.001, 0.3), st.floats(0.001, 0.3))
def test_the_p_value_is_five_percent_just_where_the_interval_reaches_0(
    a: float, b: float, one: float, two: float
) -> None:
    found = independent_difference(estimate(a, one), estimate(b, two))
    assert found.value == pytest.approx(a - b) and found.half_width == pytest.approx(math.hypot(one, two))
    p = independent_p_value(found)
    assert 0 <= p <= 1 and (found.resolved == (p < 0.05) or p == pytest.approx(0.05))


def test_one_seed_on_either_side_resolves_nothing() -> None:
    assert not independent_difference(estimate(0.5, 0.01), estimate(0.1, 0.01, seeds=1)).resolved
