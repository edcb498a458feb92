"""Bootstraps, paired tests and the correction of a family, against closed forms and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from draws import LAW, RUNS, correct
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tlm.statistics import bootstrap_difference, bootstrap_mean_accuracy, holm, mcnemar, paired_bootstrap_test

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


class TestBootstrap:
    def test_one_run_agrees_with_scipys_bootstrap(self) -> None:
        run = correct(0, 200).astype(float)
        scipys = stats.bootstrap((run,), np.mean, method="percentile", rng=np.random.default_rng(1)).confidence_interval
        found = bootstrap_mean_accuracy(run)
        np.testing.assert_allclose((found.low, found.high), scipys, atol=0.011)  # two steps of 1/200

    def test_its_spread_over_both_levels_is_the_pigeonhole_bootstraps(self) -> None:
        """Owen 2007: the variance of the draws, from the plain variances of rows, columns and cells."""
        runs = correct(1, 5, 40)
        centred = runs - runs.mean()
        rows, columns = centred.mean(axis=1).var() / 5, centred.mean(axis=0).var() / 40
        both = (centred - centred.mean(axis=1)[:, None] - centred.mean(axis=0)).var() / 200
        found = bootstrap_mean_accuracy(runs, confidence=0.6827)
        assert found.half_width == pytest.approx(math.sqrt(rows + columns + both), rel=0.04)

    def test_fine_tunings_are_drawn_within_their_pretraining(self) -> None:
        """Where fine-tunings do not differ, drawing them changes nothing but the random numbers."""
        runs = correct(2, 4, 50)
        once, thrice = bootstrap_mean_accuracy(runs), bootstrap_mean_accuracy(np.repeat(runs[:, None], 3, axis=1))
        assert once.half_width == pytest.approx(thrice.half_width, rel=0.05)

    def test_items_are_drawn_jointly(self) -> None:
        """Two systems that agree on every item differ by nothing in any draw; unpaired seeds differ."""
        run = correct(3, 1, 60)
        assert bootstrap_difference(run, run).half_width == 0
        runs = correct(4, 3, 60)
        assert bootstrap_difference(runs, runs, paired=True).half_width == 0
        assert bootstrap_difference(runs, runs).half_width > 0

    def test_a_seed_decides_every_draw(self) -> None:
        a, b = correct(0, 3, 2, 30), correct(1, 4, 30)
        assert bootstrap_difference(a, b, seed=5) == bootstrap_difference(a, b, seed=5)
        assert bootstrap_difference(a, b, seed=5) != bootstrap_difference(a, b, seed=6)

    def test_draws_in_several_passes_are_as_many_as_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tlm.statistics.bootstrap.CHUNK", 30 * 700)
        found = bootstrap_mean_accuracy(correct(0, 3, 30), draws=2_000)
        assert found.half_width == pytest.approx(bootstrap_mean_accuracy(correct(0, 3, 30)).half_width, rel=0.1)


class TestPairedTests:
    @pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (3, 9), (5, 5), (20, 4)])
    def test_mcnemar_is_the_binomial_test_of_discordant_items(self, only_a: int, only_b: int) -> None:
        a = np.repeat([1, 0, 1, 0], [only_a, only_b, 7, 5])
        b = np.repeat([0, 1, 1, 0], [only_a, only_b, 7, 5])
        tail = sum(math.comb(only_a + only_b, k) for k in range(min(only_a, only_b) + 1)) / 2 ** (only_a + only_b)
        found = mcnemar(a, b)
        assert found.p_value == pytest.approx(min(1, 2 * tail))
        assert (found.discordant, found.items) == (only_a + only_b, only_a + only_b + 12)
        assert found.difference == pytest.approx((only_a - only_b) / found.items)

    @LAW
    @given(RUNS)
    def test_the_order_of_the_systems_does_not_matter(self, runs: np.ndarray) -> None:
        assert mcnemar(runs[0], runs[1]).p_value == mcnemar(runs[1], runs[0]).p_value

    def test_the_bootstrap_agrees_with_the_t_test_over_many_items(self) -> None:
        a, b = correct(0, 3, 500, share=0.45), correct(1, 2, 500, share=0.40)
        expected = stats.ttest_rel(a.mean(axis=0), b.mean(axis=0)).pvalue
        assert 0.001 < expected < 0.5
        assert paired_bootstrap_test(a, b).p_value == pytest.approx(expected, abs=0.015)

    def test_the_bootstrap_agrees_with_resampling_item_by_item(self) -> None:
        """The multinomial over the distinct values is the same distribution as drawing every item."""
        items = correct(0, 3, 40).mean(axis=0) - correct(1, 3, 40, share=0.55).mean(axis=0)
        drawn = items[np.random.default_rng(2).integers(40, size=(20_000, 40))]
        statistics = (drawn.mean(axis=1) - items.mean()) / drawn.std(axis=1)
        expected = np.mean(np.abs(statistics) >= abs(items.mean()) / items.std())
        found = paired_bootstrap_test(correct(0, 3, 40), correct(1, 3, 40, share=0.55))
        assert found.p_value == pytest.approx(expected, abs=0.02)

    def test_equal_systems_and_opposite_ones_are_the_extremes(self) -> None:
        run = correct(0, 100)
        assert paired_bootstrap_test(run, run).p_value == 1
        assert paired_bootstrap_test(np.ones(9), np.zeros(9), draws=999).p_value == pytest.approx(0.001)

    def test_a_seed_decides_the_p_value(self) -> None:
        a, b = correct(0, 80), correct(1, 80)
        assert paired_bootstrap_test(a, b, seed=3) == paired_bootstrap_test(a, b, seed=3)


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
