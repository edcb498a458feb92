"""Statistics of studies: closed forms, scipy's own answers, and the laws that hold for any input."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict

from tlm.statistics import (
    Estimate,
    bootstrap_difference,
    bootstrap_mean_accuracy,
    cross_validated_r2,
    difference,
    difference_p_value,
    equivalent_ws,
    holm,
    mcnemar,
    mean_accuracy,
    paired_bootstrap_test,
    partial_correlation,
)

RUNS = arrays(np.bool_, st.tuples(st.integers(2, 5), st.integers(2, 12)))
LAW = settings(max_examples=50, deadline=None)
"""No deadline: an example takes a millisecond, but other processes may take the core for longer than 200 of them."""
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def correct(seed: int, *shape: int, share: float = 0.4) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < share


class TestEstimate:
    def test_it_reads_as_mean_half_width_and_seeds(self) -> None:
        assert str(Estimate(0.365, 0.357, 0.373, 0.008, 3, "t")) == "36.5 ± 0.8 (3 seeds)"

    def test_one_seed_has_no_interval_to_show(self) -> None:
        assert str(Estimate(0.365, 0.357, 0.373, 0.008, 1, "t")) == "36.5 (1 seed)"

    def test_a_system_without_a_seed_says_so(self) -> None:
        assert str(Estimate(0.425, 0.4, 0.45, 0.025, 0, "t")) == "42.5 ± 2.5 (no seed)"

    def test_a_difference_shows_its_sign(self) -> None:
        found = Estimate(-0.041, -0.055, -0.027, 0.014, 5, "t")
        assert found.text(signed=True) == "\N{MINUS SIGN}4.1 ± 1.4 (5 seeds)"

    def test_an_interval_that_is_not_symmetric_is_written_out(self) -> None:
        found = Estimate(0.62, -0.1, 0.8, 0.45, 12, "BCa", "point")
        assert found.text(scale=1, digits=2) == "0.62 [\N{MINUS SIGN}0.10, 0.80] (12 points)"

    def test_an_interval_cut_at_possible_values_keeps_its_half_width(self) -> None:
        assert str(Estimate(0.98, 0.93, 1.0, 0.05, 3, "t")) == "98.0 ± 5.0 (3 seeds)"

    @pytest.mark.parametrize(
        ("low", "high", "seeds", "resolved"),
        [
            (0.01, 0.1, 3, True),
            (-0.1, -0.01, 3, True),
            (-0.01, 0.1, 3, False),
            (0.0, 0.1, 3, False),
            (0.01, 0.1, 0, True),
            (0.01, 0.1, 1, False),
        ],
    )
    def test_resolved_is_an_interval_without_zero_from_more_than_one_seed(
        self, low: float, high: float, seeds: int, resolved: bool
    ) -> None:
        assert Estimate(0.05, low, high, 0.05, seeds, "t").resolved is resolved


class TestMeanAccuracy:
    def test_one_run_has_students_interval_over_items(self) -> None:
        run = correct(0, 50)
        expected = stats.t.interval(0.95, 49, run.mean(), stats.sem(run))
        for given_, seeds in ((run, 0), (run[None], 1), (run[None, None], 1)):
            found = mean_accuracy(given_)
            np.testing.assert_allclose((found.low, found.high), expected)
            assert (found.seeds, found.method) == (seeds, "t over items")

    def test_without_spread_over_items_it_is_students_interval_over_seeds(self) -> None:
        """The same share of seeds is right on every item: the remainder for items is 0 or less, and cut to 0."""
        runs = np.array([[1, 0, 0, 1, 1], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
        found = mean_accuracy(runs)
        expected = stats.t.interval(0.95, 2, runs.mean(), stats.sem(runs.mean(axis=1)))
        assert found.half_width == pytest.approx((expected[1] - expected[0]) / 2)

    def test_its_parts_are_the_mean_squares_of_the_two_way_layout(self) -> None:
        """Var = (MS_seeds + MS_items − MS_both) / (S·N); Cochran's and Satterthwaite's quantiles count 2 : 1."""
        runs = (correct(1, 1, 40, share=0.5) | correct(2, 4, 40, share=0.2)).astype(float)
        s, n = runs.shape
        seeds = n * np.sum((runs.mean(axis=1) - runs.mean()) ** 2) / (s - 1)
        items = s * np.sum((runs.mean(axis=0) - runs.mean()) ** 2) / (n - 1)
        total = np.sum((runs - runs.mean()) ** 2)
        both = (total - seeds * (s - 1) - items * (n - 1)) / ((s - 1) * (n - 1))
        variances = np.array([seeds, items - both]) / (s * n)
        freedom = variances.sum() ** 2 / (variances**2 @ [1 / (s - 1), 1 / (n - 1)])
        cochran = variances @ stats.t.ppf(0.975, [s - 1, n - 1]) / variances.sum()
        quantile = (2 * cochran + stats.t.ppf(0.975, freedom)) / 3
        assert (variances > 0).all()
        assert mean_accuracy(runs).half_width == pytest.approx(quantile * np.sqrt(variances.sum()))

    def test_fine_tunings_of_a_pretraining_count_as_their_mean(self) -> None:
        """Repeating each fine-tuning adds runs, but no information."""
        runs = correct(3, 4, 30)
        once, thrice = mean_accuracy(runs), mean_accuracy(np.repeat(runs[:, None], 3, axis=1))
        assert once == thrice

    def test_fine_tunings_of_one_pretraining_are_units_and_named(self) -> None:
        runs = correct(3, 4, 30)
        found = mean_accuracy(runs[None])
        assert found.half_width == mean_accuracy(runs).half_width
        assert found.seed_count == "4 fine-tuning seeds"
        assert found.method == "t over fine-tuning seeds and items"

    @pytest.mark.parametrize("right", [0, 1])
    def test_where_nothing_varies_the_interval_is_clopper_and_pearsons(self, right: int) -> None:
        found = mean_accuracy(np.full((3, 100), right))
        expected = stats.binomtest(100 * right, 100).proportion_ci(method="exact")
        assert (found.low, found.high) == (expected.low, expected.high)
        assert found.half_width == pytest.approx(1 - 0.025 ** (1 / 100))

    @LAW
    @given(RUNS)
    def test_the_interval_holds_the_mean_and_keeps_to_shares(self, runs: np.ndarray) -> None:
        found = mean_accuracy(runs)
        assert found.value == pytest.approx(runs.mean())
        assert 0 <= found.low <= found.value <= found.high <= 1

    @LAW
    @given(RUNS, st.integers(0, 99))
    def test_the_order_of_seeds_and_of_items_does_not_matter(self, runs: np.ndarray, seed: int) -> None:
        generator = np.random.default_rng(seed)
        shuffled = generator.permutation(generator.permutation(runs, axis=0), axis=1)
        one, other = mean_accuracy(runs), mean_accuracy(shuffled)
        assert (one.value, one.half_width) == pytest.approx((other.value, other.half_width))

    @LAW
    @given(RUNS)
    def test_wrong_answers_mirror_right_ones(self, runs: np.ndarray) -> None:
        right, wrong = mean_accuracy(runs), mean_accuracy(~runs)
        assert (wrong.low, wrong.high) == pytest.approx((1 - right.high, 1 - right.low))

    @LAW
    @given(RUNS, st.floats(0.5, 0.94))
    def test_more_confidence_is_a_wider_interval(self, runs: np.ndarray, confidence: float) -> None:
        assert mean_accuracy(runs, confidence=confidence).half_width <= mean_accuracy(runs).half_width


class TestDifference:
    @LAW
    @given(RUNS)
    def test_it_changes_sign_with_the_order_of_the_systems(self, runs: np.ndarray) -> None:
        other = np.roll(runs, 1, axis=1) & runs
        there, back = difference(runs, other), difference(other, runs)
        assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))

    @LAW
    @given(RUNS)
    def test_a_system_does_not_differ_from_itself(self, runs: np.ndarray) -> None:
        assert not difference(runs, runs).resolved
        assert difference(runs, runs, paired=True).half_width == 0

    def test_paired_seeds_are_the_analysis_of_their_differences(self) -> None:
        a, b = correct(0, 4, 30), correct(1, 4, 30)
        deltas = a.mean(axis=1) - b.mean(axis=1)
        found = difference(a, b, paired=True)
        assert found.value == pytest.approx(deltas.mean())
        assert found.half_width >= stats.sem(deltas) * stats.t.ppf(0.975, 29)

    def test_without_spread_over_items_it_is_welchs_interval_over_seeds(self) -> None:
        a = np.array([[1, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 1]])
        b = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 1, 0]])
        found = difference(a, b)
        welch = stats.ttest_ind(a.mean(axis=1), b.mean(axis=1), equal_var=False)
        low, high = welch.confidence_interval(0.95)
        assert found.half_width == pytest.approx((high - low) / 2)
        assert difference_p_value(a, b) == pytest.approx(welch.pvalue)

    def test_two_systems_without_seeds_have_the_paired_t_test_over_items(self) -> None:
        a, b = correct(0, 60, share=0.6), correct(1, 60, share=0.4)
        expected = stats.ttest_rel(a.astype(float), b.astype(float))
        found = difference(a, b)
        np.testing.assert_allclose((found.low, found.high), expected.confidence_interval())
        assert difference_p_value(a, b) == pytest.approx(expected.pvalue)
        assert (found.seeds, found.method) == (0, "t over items")

    def test_seeds_of_both_systems_may_differ_in_number_and_nesting(self) -> None:
        found = difference(correct(0, 5, 2, 40), correct(1, 3, 40))
        assert (found.seeds, found.method) == (3, "t over seeds and items")

    def test_against_a_system_without_a_seed_the_other_ones_seeds_count(self) -> None:
        assert difference(correct(0, 5, 40), correct(1, 40)).seeds == 5

    def test_one_seed_on_either_side_resolves_nothing(self) -> None:
        found = difference(np.ones((5, 40)), np.zeros((1, 40)))
        assert found.text() == "100.0 (1 seed)"
        assert not found.resolved

    @LAW
    @given(st.integers(0, 10_000), st.floats(0.2, 0.6), st.booleans())
    def test_the_p_value_is_below_five_percent_just_where_the_interval_excludes_zero(
        self, seed: int, share: float, paired: bool
    ) -> None:
        a, b = correct(seed, 3, 60), correct(seed + 1, 3, 60, share=share)
        found = difference(a, b, paired=paired)
        assert found.resolved == (difference_p_value(a, b, paired=paired) < 0.05)

    def test_a_p_value_ends_at_the_smallest_that_is_computed(self) -> None:
        assert difference_p_value(np.ones(9), np.zeros(9)) == 1e-30
        assert difference_p_value(np.ones((3, 9)), np.ones((3, 9))) == 1
        assert 1e-30 <= difference_p_value(np.tile([1, 1, 1, 0], 5_000), np.zeros(20_000)) < 1e-29


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


class TestPrediction:
    X = np.array([60.0, 72, 80, 85, 61, 75, 82, 90, 58, 70, 79, 88])
    Y = np.array([1.0, 2.5, 3.0, 4.2, 0.4, 2.0, 3.5, 3.9, 1.5, 2.2, 2.4, 4.4])
    WS = np.log(np.tile([5e3, 1e4, 2e4, 4e4], 3))
    TASKS = np.repeat(["agnews", "dbpedia", "fewrel"], 4)
    MANY = np.repeat(list("abcdef"), 2)

    @pytest.mark.parametrize("groups", [TASKS, MANY, np.arange(12)])
    def test_r2_is_that_of_scikit_learns_leave_one_group_out(self, groups: np.ndarray) -> None:
        x = self.X[:, None]
        line = cross_val_predict(LinearRegression(), x, self.Y, groups=groups, cv=LeaveOneGroupOut())
        mean = cross_val_predict(LinearRegression(), 0 * x, self.Y, groups=groups, cv=LeaveOneGroupOut())
        expected = 1 - np.sum((self.Y - line) ** 2) / np.sum((self.Y - mean) ** 2)
        assert cross_validated_r2(self.X, self.Y, groups).value == pytest.approx(expected)

    def test_a_perfect_line_has_r2_one_and_noise_none(self) -> None:
        assert cross_validated_r2(self.X, 3 * self.X - 1, self.MANY).value == pytest.approx(1)
        noise = np.random.default_rng(0).standard_normal((2, 200))
        assert cross_validated_r2(*noise, np.arange(200) % 10).value < 0.02

    def test_copies_of_a_group_never_predict_it(self) -> None:
        """A group drawn twice is left out twice: weights 2 on every group change nothing."""
        twice = [np.tile(it, 2) for it in (self.X, self.Y, self.MANY)]
        expected = cross_validated_r2(self.X, self.Y, self.MANY).value
        assert cross_validated_r2(*twice).value == pytest.approx(expected)

    def test_the_jackknife_is_students_interval_of_the_groups_left_out(self) -> None:
        left_out = [
            cross_validated_r2(self.X[keep], self.Y[keep], self.MANY[keep]).value
            for keep in (group != self.MANY for group in "abcdef")
        ]
        found = cross_validated_r2(self.X, self.Y, self.MANY)
        scale = np.log(1 - np.array(left_out))
        half = stats.t.ppf(0.975, 5) * np.sqrt(5 / 6 * np.sum((scale - scale.mean()) ** 2))
        expected = 1 - np.exp(np.log(1 - found.value) + np.array([half, -half]))
        np.testing.assert_allclose((found.low, found.high), expected)
        assert (found.seed_count, found.method) == ("6 groups", "jackknife over groups")

    def test_where_a_group_left_out_leaves_no_answer_nothing_is_bounded(self) -> None:
        found = cross_validated_r2([1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 1, 2], [0, 0, 1, 1, 2, 2])
        assert (found.low, found.high) == (-math.inf, 1)

    def test_bca_of_three_groups_is_no_error(self) -> None:
        found = cross_validated_r2(self.X, self.Y, self.TASKS, method="BCa")
        assert found.low <= found.value <= found.high

    def test_partial_correlation_is_that_of_the_residuals(self) -> None:
        def left(values: np.ndarray) -> np.ndarray:
            line = stats.linregress(self.WS, values)
            return values - line.intercept - line.slope * self.WS

        expected = stats.pearsonr(left(self.X), left(self.Y)).statistic
        for method in ("jackknife", "BCa"):
            found = partial_correlation(self.X, self.Y, self.WS, method=method)
            assert found.value == pytest.approx(expected)
            assert found.low < found.value < found.high
            assert found.method == f"{method} over points"

    def test_a_constant_covariate_leaves_pearsons_correlation_and_scipys_interval(self) -> None:
        found = partial_correlation(self.X, self.Y, np.full(12, 7.0), method="BCa")
        assert found.value == pytest.approx(stats.pearsonr(self.X, self.Y).statistic)
        scipys = stats.bootstrap(
            (self.X, self.Y), lambda x, y: stats.pearsonr(x, y).statistic, paired=True, vectorized=False,
            n_resamples=1_500, rng=np.random.default_rng(1),
        ).confidence_interval  # fmt: skip
        np.testing.assert_allclose((found.low, found.high), scipys, atol=0.03)

    def test_groups_are_drawn_whole(self) -> None:
        """Copies of each point as a group are as informative as the points; as points they seem more."""
        points, groups = [np.repeat(it, 5) for it in (self.X, self.Y, self.WS)], np.repeat(np.arange(12), 5)
        for method in ("jackknife", "BCa"):
            once = partial_correlation(self.X, self.Y, self.WS, method=method)
            grouped = partial_correlation(*points, groups=groups, method=method)
            assert (grouped.low, grouped.high) == pytest.approx((once.low, once.high))
            assert partial_correlation(*points, method=method).half_width < 0.8 * once.half_width

    @LAW
    @given(st.floats(0.1, 9), st.floats(-9, 9), st.floats(-9, 9))
    def test_neither_depends_on_the_units_of_its_arguments(self, scale: float, shift: float, slope: float) -> None:
        r2 = cross_validated_r2(self.X, self.Y, self.MANY).value
        r = partial_correlation(self.X, self.Y, self.WS).value
        x, y = scale * self.X + shift, scale * self.Y - shift
        assert cross_validated_r2(x, y, self.MANY).value == pytest.approx(r2)
        assert partial_correlation(x + slope * self.WS, y, scale * self.WS).value == pytest.approx(r)

    def test_a_seed_decides_the_interval(self) -> None:
        one, again = (cross_validated_r2(self.X, self.Y, self.MANY, method="BCa", seed=4) for _ in range(2))
        assert one == again


class TestEquivalentWs:
    WS = (10_000, 40_000, 90_000)

    @pytest.mark.parametrize("ws", [10_000, 20_000, 45_000, 90_000])
    def test_it_inverts_a_curve_that_is_linear_in_log_ws(self, ws: float) -> None:
        curve = 0.1 * np.log(self.WS)
        assert equivalent_ws(self.WS, curve, 0.1 * math.log(ws)) == pytest.approx(ws)

    def test_half_of_the_way_in_accuracy_is_the_geometric_mean(self) -> None:
        assert equivalent_ws([10_000, 40_000], [0.4, 0.6], 0.5) == pytest.approx(20_000)

    @pytest.mark.parametrize("target", [0.39, 0.71])
    def test_nothing_is_extrapolated(self, target: float) -> None:
        assert equivalent_ws(self.WS, [0.4, 0.6, 0.7], target) is None

    def test_a_dip_is_levelled_to_a_plateau_whose_smallest_ws_counts(self) -> None:
        ws, curve = [1_000, 2_000, 4_000, 8_000], [0.2, 0.5, 0.3, 0.6]
        assert equivalent_ws(ws, curve, 0.4) == pytest.approx(2_000)
        assert equivalent_ws(ws, curve, 0.3) == pytest.approx(1_000 * 2**0.5)
        assert equivalent_ws(ws, curve, 0.5) == pytest.approx(4_000 * 2**0.5)

    @LAW
    @given(st.lists(st.integers(0, 20).map(lambda n: n / 20), min_size=1, max_size=6), st.floats(0, 1), st.floats(0, 1))
    def test_a_higher_accuracy_never_needs_less_data(self, curve: list[float], one: float, other: float) -> None:
        ws = 1_000 * 2.0 ** np.arange(len(curve))
        less, more = (equivalent_ws(ws, curve, target) for target in sorted((one, other)))
        assert less is None or more is None or ws[0] <= less <= more * (1 + 1e-12) <= ws[-1] * (1 + 1e-9)

    def test_the_order_of_the_points_does_not_matter(self) -> None:
        assert equivalent_ws([40_000, 10_000], [0.6, 0.4], 0.5) == equivalent_ws([10_000, 40_000], [0.4, 0.6], 0.5)

    def test_one_point_is_worth_itself(self) -> None:
        assert equivalent_ws([10_000], [0.4], 0.4) == 10_000


TWO_BY_FOUR = np.array([[1, 0, 1, 1], [0, 1, 1, 0]])
LINE = np.arange(6.0)
Bad = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], str]
BAD: dict[str, Bad] = {
    "NaN": (mean_accuracy, ([[1, 0, np.nan], [1, 0, 1]],), {}, r"nan at \[0, 2\]; leave items"),
    "a probability": (mean_accuracy, ([[0.5, 1.0]],), {}, "holds 0.5; give 1 where"),
    "no seed": (mean_accuracy, (np.ones((0, 4)),), {}, "seeds < 1; give"),
    "no fine-tuning seed": (mean_accuracy, (np.ones((2, 0, 4)),), {}, "seeds < 1; give"),
    "no item": (mean_accuracy, (np.ones((3, 0)),), {}, "0 items; .* at least 2"),
    "a scalar": (mean_accuracy, (1,), {}, r"shape \(\); give"),
    "four dimensions": (mean_accuracy, (np.ones((1, 1, 1, 4)),), {}, r"give \(items,\)"),
    "ragged": (mean_accuracy, ([[1, 0], [1]],), {}, "equally long"),
    "confidence": (mean_accuracy, (TWO_BY_FOUR,), {"confidence": 95}, "95; give a share"),
    "items": (difference, (TWO_BY_FOUR, TWO_BY_FOUR[:, :3]), {}, "4 items and b has 3"),
    "pairs": (difference, (TWO_BY_FOUR, TWO_BY_FOUR[:1]), {"paired": True}, "same seeds .* or paired=False"),
    "pairs without seeds": (difference, (TWO_BY_FOUR[0],) * 2, {"paired": True}, "or paired=False"),
    "p of one seed": (difference_p_value, (TWO_BY_FOUR, TWO_BY_FOUR[:1]), {}, "1 seed; run it .* at least 2"),
    "few draws": (bootstrap_mean_accuracy, (TWO_BY_FOUR,), {"draws": 10}, "draws is 10; .* at least 100"),
    "several runs": (mcnemar, (TWO_BY_FOUR, TWO_BY_FOUR), {}, "2 runs; use paired_bootstrap_test"),
    "an empty family": (holm, ([],), {}, "at least 1"),
    "no probability": (holm, ([0.5, 1.2],), {}, "1.2; give values from 0 to 1"),
    "NaN in a family": (holm, ([0.5, np.nan],), {}, "nan at"),
    "two groups": (cross_validated_r2, (LINE, LINE, [0, 0, 0, 1, 1, 1]), {}, "2 distinct labels; .* at least 3"),
    "constant": (cross_validated_r2, (LINE * 0, LINE, LINE), {}, "x is 0 at every point"),
    "lengths": (cross_validated_r2, (LINE, LINE[:5], LINE), {}, "'x': 6, 'y': 5"),
    "collinear": (partial_correlation, (2 * LINE, LINE**2, LINE), {}, "choose another covariate"),
    "infinite": (partial_correlation, (LINE, LINE**2, [*LINE[:5], -np.inf]), {}, "-inf at .* leave such points"),
    "method": (partial_correlation, (LINE, LINE**2, LINE % 2), {"method": "bca"}, "'bca'; give \"jackknife\""),
    "scratch": (equivalent_ws, ([0, 10], [0.1, 0.2], 0.15), {}, "leave training from scratch out"),
    "twice": (equivalent_ws, ([10, 10], [0.1, 0.2], 0.15), {}, "mean accuracy over seeds"),
    "no target": (equivalent_ws, ([10, 20], [0.1, 0.2], np.nan), {}, "target is nan"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_with_the_way_out(case: str) -> None:
    function, arguments, options, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        function(*arguments, **options)
