"""A mean over seeds and units: pairs that are alike differ by nothing, and intervals hold what they should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlm.statistics.two_level import two_level

GENERATOR = np.random.default_rng(5)


@pytest.mark.parametrize("seed_sd", [0.0, 0.02])
def test_ninety_five_of_a_hundred_intervals_hold_the_truth(seed_sd: float) -> None:
    truth, hits, trials = 0.6, 0, 100
    for trial in range(trials):
        units_U = GENERATOR.normal(0, 0.1, 67)
        scores_SU = truth + units_U + GENERATOR.normal(0, seed_sd, (3, 1)) + GENERATOR.normal(0, 0.05, (3, 67))
        estimate = two_level([scores_SU], draws=400, seed=trial).estimate
        hits += estimate.low <= truth <= estimate.high
    assert hits / trials >= 0.89, hits


@given(st.integers(1, 4), st.integers(2, 30), st.floats(-1, 1))
def test_a_constant_shift_is_found_without_an_error(seeds: int, units: int, shift: float) -> None:
    scores_SU = np.random.default_rng(units).random((seeds, units))
    found = two_level([scores_SU + shift, scores_SU], [1, -1], draws=100)
    estimate = found.estimate
    assert estimate.value == pytest.approx(shift) and estimate.low == pytest.approx(shift, abs=1e-9)
    assert estimate.seeds == seeds and (found.p_value() is None) == (seeds == 1)


def test_one_seed_more_or_other_units_are_refused() -> None:
    for other in (np.zeros((3, 5)), np.zeros((2, 6)), np.zeros(5), np.full((2, 5), np.nan)):
        with pytest.raises(ValueError, match="shape|finite"):
            two_level([np.zeros((2, 5)), other], [1, -1])
