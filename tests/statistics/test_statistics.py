"""Estimates of accuracies and their differences: closed forms, scipy's own answers, laws that hold for any input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from draws import LAW, RUNS, correct
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tlm.statistics import (
    Estimate,
    cross_validated_r2,
    difference,
    difference_p_value,
    holm,
    mean_accuracy,
    paired_bootstrap_p_value,
    partial_correlation,
)


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
        found = Estimate(0.62, -0.1, 0.8, 0.45, 12, "jackknife", "point")
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
    @given(st.integers(0, 10_000), st.floats(0.2, 0.6))
    def test_the_p_value_is_below_five_percent_just_where_the_interval_excludes_zero(
        self, seed: int, share: float
    ) -> None:
        a, b = correct(seed, 3, 60), correct(seed + 1, 3, 60, share=share)
        found = difference(a, b)
        assert found.resolved == (difference_p_value(a, b) < 0.05)

    def test_a_p_value_ends_at_the_smallest_that_is_computed(self) -> None:
        assert difference_p_value(np.ones(9), np.zeros(9)) == 1e-30
        assert difference_p_value(np.ones((3, 9)), np.ones((3, 9))) == 1
        assert 1e-30 <= difference_p_value(np.tile([1, 1, 1, 0], 5_000), np.zeros(20_000)) < 1e-29


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
    "p of one seed": (difference_p_value, (TWO_BY_FOUR, TWO_BY_FOUR[:1]), {}, "1 seed, .* run it with at least 2"),
    "few draws": (paired_bootstrap_p_value, (TWO_BY_FOUR, TWO_BY_FOUR), {"draws": 10}, "draws is 10; .* at least 100"),
    "an empty family": (holm, ([],), {}, "at least 1"),
    "no probability": (holm, ([0.5, 1.2],), {}, "1.2; give values from 0 to 1"),
    "NaN in a family": (holm, ([0.5, np.nan],), {}, "nan at"),
    "two groups": (cross_validated_r2, (LINE, LINE, [0, 0, 0, 1, 1, 1]), {}, "2 distinct labels; .* at least 3"),
    "constant": (cross_validated_r2, (LINE * 0, LINE, LINE), {}, "x is 0 at every point"),
    "lengths": (cross_validated_r2, (LINE, LINE[:5], LINE), {}, "'x': 6, 'y': 5"),
    "collinear": (partial_correlation, (2 * LINE, LINE**2, LINE), {}, "choose another covariate"),
    "infinite": (partial_correlation, (LINE, LINE**2, [*LINE[:5], -np.inf]), {}, "-inf at .* leave such points"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_with_the_way_out(case: str) -> None:
    function, arguments, options, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        function(*arguments, **options)
