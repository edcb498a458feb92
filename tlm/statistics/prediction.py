"""Which measure of overlap predicts the gap best? Out-of-group R² and partial correlation, with intervals.

Both are functions of sums over points. What is left when a unit is left out is then a vector of weights.

Units (points, or groups whose points depend on each other) are left out one at a time, whole. The interval is the
jackknife's: Student's t with units − 1 degrees of freedom, on log(1 − R²) or Fisher's z (Tukey 1958; Efron & Tibshirani
1993, ch. 11). In simulations of 3 to 40 units a nominal 95 % covered 93 to 97 % (correlation) and 89 to 99 % (R²).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from tlm.statistics.checks import Floats, confidence_level, same_length, vector
from tlm.statistics.estimate import Estimate

TINY = 1e-12
"""Variances and unexplained shares below it are rounding."""


@dataclass(frozen=True)
class _Statistic:
    """A statistic of weighted units."""

    of: Callable[[Floats], Floats]
    """Weights (…, units) → values (…)."""
    stabilise: Callable[[Floats], Floats]
    """To a scale on which the statistic is nearly normal; increasing or decreasing."""
    restore: Callable[[Floats], Floats]
    limits: tuple[float, float]


def cross_validated_r2(
    x: ArrayLike,
    y: ArrayLike,
    groups: ArrayLike,
    *,
    confidence: float = 0.95,
) -> Estimate:
    """R² of y = α + β·x on groups that the line has not seen: each is predicted by the line through all others.

    1 − Σ(y − ŷ)² / Σ(y − ȳ)², where ŷ and ȳ, the mean, come from the other groups (Campbell & Thompson 2008, Rev.
    Financ. Stud. 21): below 0, x predicts worse than no predictor. Groups are the units of the interval.

    Args:
        x: the predictor, shape (points,).
        y: what is predicted, shape (points,).
        groups: a label for each point (its task or Ws, say), shape (points,); at least three distinct.
        confidence: the interval's coverage, a share.

    Raises:
        ValueError: for NaN, mismatched lengths, fewer than three groups, or x or y without variation.
    """
    points = {"x": vector(x, "x", at_least=3), "y": vector(y, "y", at_least=3)}
    labels = np.asarray(groups)
    same_length(**points, groups=labels)
    moments = _moments(**points)
    sums = _sums(moments, labels)
    if len(sums) < 3:
        raise ValueError(f"groups has {len(sums)} distinct labels; leaving one out needs at least 3.")

    statistic = _Statistic(
        lambda weights: _out_of_group_r2(weights[..., None] * sums),
        lambda r2: np.log(np.maximum(1 - r2, TINY)),
        lambda log_rest: 1 - np.exp(log_rest),
        (-np.inf, 1.0),
    )
    return _jackknife(statistic, len(sums), "group", confidence)


def partial_correlation(
    x: ArrayLike,
    y: ArrayLike,
    covariate: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Pearson's correlation of what a line in `covariate` leaves of x and of y.

    Args:
        x: a measure of overlap, say, shape (points,).
        y: a gap, say, shape (points,).
        covariate: what is held constant (log Ws, say), shape (points,).
        groups: a label for each point if points of a group depend on each other: groups are then left out whole.
        confidence: the interval's coverage, a share.

    Raises:
        ValueError: for NaN, mismatched lengths, fewer than four points or three groups, or x or y that the covariate
            determines.
    """
    points = {name: vector(it, name, at_least=4) for name, it in (("x", x), ("y", y), ("covariate", covariate))}
    labels = np.arange(len(points["x"])) if groups is None else np.asarray(groups)
    same_length(**points, groups=labels)
    sums = _sums(_moments(**points), labels)
    if len(sums) < 3:
        raise ValueError(f"groups has {len(sums)} distinct labels; leaving one out needs at least 3.")

    statistic = _Statistic(
        lambda weights: _partial(np.tensordot(weights, sums, axes=1)),
        lambda r: np.arctanh(np.clip(r, TINY - 1, 1 - TINY)),
        np.tanh,
        (-1.0, 1.0),
    )
    if np.isnan(statistic.of(np.ones(len(sums)))):
        raise ValueError("the covariate determines x or y; nothing is left to correlate: choose another covariate.")
    return _jackknife(statistic, len(sums), "point" if groups is None else "group", confidence)


def _moments(**columns: Floats) -> Floats:
    """(points, 1 + columns + products): 1, each column, and each product of two, of standardised columns."""
    for name in ("x", "y"):
        if np.ptp(columns[name]) == 0:
            raise ValueError(
                f"{name} is {columns[name][0]:g} at every point; there is nothing to predict with or of it."
            )
    # Both statistics ignore location and scale; centred columns keep differences of sums accurate.
    z = np.stack([(it - it.mean()) / (it.std() or 1.0) for it in columns.values()], axis=1)
    rows, others = np.triu_indices(z.shape[1])
    return np.concatenate([np.ones((len(z), 1)), z, z[:, rows] * z[:, others]], axis=1)


def _sums(moments: Floats, labels: NDArray[np.generic]) -> Floats:
    """(groups, moments): each group's sums."""
    place = np.unique(labels, return_inverse=True)[1]
    return np.stack([np.bincount(place, weights=moment) for moment in moments.T], axis=1)


def _out_of_group_r2(sums: Floats) -> Floats:
    """R² (…) from each group's weighted sums (…, groups, [n, x, y, xx, xy, yy])."""
    n, x, y, xx, xy, yy = np.moveaxis(sums, -1, 0)
    others = np.moveaxis(sums.sum(axis=-2, keepdims=True) - sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        x_mean, y_mean, xx_mean, xy_mean, _ = others[1:] / others[0]
        variance = xx_mean - x_mean**2
        # Other groups that share one x determine no slope: the shortest solution is their mean.
        slope = np.where(variance > TINY, (xy_mean - x_mean * y_mean) / variance, 0.0)
        start = y_mean - slope * x_mean
        error = yy + n * start**2 + slope**2 * xx - 2 * start * y - 2 * slope * xy + 2 * start * slope * x
        unaided = yy + n * y_mean**2 - 2 * y_mean * y
        found = 1 - error.sum(axis=-1) / unaided.sum(axis=-1)
    return np.where(np.isfinite(found), found, -np.inf)


def _partial(sums: Floats) -> Floats:
    """Partial correlation (…) from the sums (…, [n, x, y, z, xx, xy, xz, yy, yz, zz]); NaN where it is undefined."""
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y, z, xx, xy, xz, yy, yz, zz = np.moveaxis(sums[..., 1:] / sums[..., :1], -1, 0)
        var_x, var_y, var_z = xx - x * x, yy - y * y, zz - z * z
        cov_xy, cov_xz, cov_yz = xy - x * y, xz - x * z, yz - y * z
        # A covariate without variation explains nothing.
        share = np.where(var_z > TINY, 1 / var_z, 0.0)
        left_x, left_y = var_x - share * cov_xz**2, var_y - share * cov_yz**2
        found = (cov_xy - share * cov_xz * cov_yz) / np.sqrt(left_x * left_y)
    return np.where((left_x > TINY) & (left_y > TINY), np.clip(found, -1, 1), np.nan)


def _jackknife(statistic: _Statistic, units: int, unit: str, confidence: float) -> Estimate:
    """With Student's interval on the stabilised scale; all possible values where leaving a unit out leaves no answer."""
    confidence_level(confidence)
    value = statistic.of(np.ones(units))
    left_out = statistic.of(1 - np.eye(units))
    low, high = statistic.limits
    if np.isfinite(left_out).all():
        centre, others = statistic.stabilise(value), statistic.stabilise(left_out)
        error = np.sqrt((units - 1) * others.var())
        half = stdtrit(units - 1, (1 + confidence) / 2) * error
        with np.errstate(over="ignore"):
            ends = statistic.restore(np.array([centre - half, centre + half]))
        low, high = float(ends.min()), float(ends.max())
    return Estimate(float(value), low, high, (high - low) / 2, units, f"jackknife over {unit}s", unit)
