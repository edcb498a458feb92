"""The paired bootstrap and the correction of a family, against closed forms and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from draws import LAW, correct
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tlm.statistics import holm, paired_bootstrap_p_value

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


class TestPairedBootstrap:
    def test_the_bootstrap_agrees_with_the_t_test_over_many_items(self) -> None:
        a, b = correct(0, 3, 500, share=0.45), correct(1, 2, 500, share=0.40)
        expected = stats.ttest_rel(a.mean(axis=0), b.mean(axis=0)).pvalue
        assert 0.001 < expected < 0.5
        assert paired_bootstrap_p_value(a, b) == pytest.approx(expected, abs=0.015)

    def test_the_bootstrap_agrees_with_resampling_item_by_item(self) -> None:
        """The multinomial over the distinct values is the same distribution as drawing every item."""
        items = correct(0, 3, 40).mean(axis=0) - correct(1, 3, 40, share=0.55).mean(axis=0)
        drawn = items[np.random.default_rng(2).integers(40, size=(20_000, 40))]
        statistics = (drawn.mean(axis=1) - items.mean()) / drawn.std(axis=1)
        expected = np.mean(np.abs(statistics) >= abs(items.mean()) / items.std())
        found = paired_bootstrap_p_value(correct(0, 3, 40), correct(1, 3, 40, share=0.55))
        assert found == pytest.approx(expected, abs=0.02)

    def test_equal_systems_and_opposite_ones_are_the_extremes(self) -> None:
        run = correct(0, 100)
        assert paired_bootstrap_p_value(run, run) == 1
        assert paired_bootstrap_p_value(np.ones(9), np.zeros(9), draws=999) == pytest.approx(0.001)

    def test_a_seed_decides_the_p_value(self) -> None:
        a, b = correct(0, 80), correct(1, 80)
        assert paired_bootstrap_p_value(a, b, seed=3) == paired_bootstrap_p_value(a, b, seed=3)


class TestHolm:
    def test_an_example_by_hand(self) -> None:
        """0.005·4, 0.01·3, 0.03·2, and 0.04·1, which is raised to the one before it."""
        np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])

    @LAW
    @given(P_VALUES)
    def test_it_lies_between_the_raw_values_and_bonferronis(self, raw: list[float]) -> None:
        adjusted = holm(raw)
        assert (adjusted >= np.array(raw)).all()
        assert (adjusted <= np.minimum(np.array(raw) * len(raw), 1) + 1e-15).all()

    @LAW
    @given(P_VALUES)
    def test_it_keeps_the_order(self, raw: list[float]) -> None:
        assert (np.diff(holm(raw)[np.argsort(raw)]) >= 0).all()

    @LAW
    @given(P_VALUES, st.integers(0, 99))
    def test_it_does_not_depend_on_the_order_of_the_family(self, raw: list[float], seed: int) -> None:
        order = np.random.default_rng(seed).permutation(len(raw))
        np.testing.assert_array_equal(holm(np.array(raw)[order]), holm(raw)[order])

    @LAW
    @given(P_VALUES, st.floats(0.001, 0.5))
    def test_it_rejects_what_the_step_down_procedure_rejects(self, raw: list[float], alpha: float) -> None:
        rejected = 0
        for step, p in enumerate(sorted(raw)):
            if p * (len(raw) - step) > alpha:
                break
            rejected += 1
        assert (holm(raw) <= alpha).sum() == rejected
