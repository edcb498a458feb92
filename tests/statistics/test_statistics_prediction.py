"""What predicts the gap, and the Ws of a given accuracy, against scikit-learn, closed forms and laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from draws import LAW
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict

from tlm.statistics import cross_validated_r2, partial_correlation


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

    def test_partial_correlation_is_that_of_the_residuals(self) -> None:
        def left(values: np.ndarray) -> np.ndarray:
            line = stats.linregress(self.WS, values)
            return values - line.intercept - line.slope * self.WS

        expected = stats.pearsonr(left(self.X), left(self.Y)).statistic
        found = partial_correlation(self.X, self.Y, self.WS)
        assert found.value == pytest.approx(expected)
        assert found.low < found.value < found.high
        assert found.method == "jackknife over points"

    def test_a_constant_covariate_leaves_pearsons_correlation(self) -> None:
        found = partial_correlation(self.X, self.Y, np.full(12, 7.0))
        assert found.value == pytest.approx(stats.pearsonr(self.X, self.Y).statistic)

    def test_groups_are_left_out_whole(self) -> None:
        """Copies of each point as a group are as informative as the points; as points they seem more."""
        points, groups = [np.repeat(it, 5) for it in (self.X, self.Y, self.WS)], np.repeat(np.arange(12), 5)
        once = partial_correlation(self.X, self.Y, self.WS)
        grouped = partial_correlation(*points, groups=groups)
        assert (grouped.low, grouped.high) == pytest.approx((once.low, once.high))
        assert partial_correlation(*points).half_width < 0.8 * once.half_width

    @LAW
    @given(st.floats(0.1, 9), st.floats(-9, 9), st.floats(-9, 9))
    def test_neither_depends_on_the_units_of_its_arguments(self, scale: float, shift: float, slope: float) -> None:
        r2 = cross_validated_r2(self.X, self.Y, self.MANY).value
        r = partial_correlation(self.X, self.Y, self.WS).value
        x, y = scale * self.X + shift, scale * self.Y - shift
        assert cross_validated_r2(x, y, self.MANY).value == pytest.approx(r2)
        assert partial_correlation(x + slope * self.WS, y, scale * self.WS).value == pytest.approx(r)
