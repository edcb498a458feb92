"""Which measure of overlap predicts the gap best? Out-of-group R² and partial correlation, with intervals.

Both are functions of sums over points. A resample is then a vector of weights, and 10,000 of them one matrix product.

Units (points, or groups whose points depend on each other) are left out or drawn whole. Intervals:

- jackknife: Student's t with units − 1 degrees of freedom, on log(1 − R²) or Fisher's z (Tukey 1958; Efron & Tibshirani
  1993, ch. 11). In simulations of 3 to 40 units a nominal 95 % covered 93 to 97 % (correlation) and 89 to 99 % (R²).
- BCa: bias-corrected and accelerated bootstrap (Efron 1987, J. Am. Stat. Assoc. 82; scipy.stats.bootstrap). There it
  covered 91 to 98 % for 10 independent points or more, but 71 to 77 % for three groups, and 85 to 96 % for 6 to 30.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit
from scipy.stats import DegenerateDataWarning, bootstrap

from tlm.statistics.bootstrap import DRAWS
from tlm.statistics.checks import Floats, confidence_level, number_of_draws, same_length, vector
from tlm.statistics.estimate import Estimate

Method = Literal["jackknife", "BCa"]
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
    method: Method = "jackknife",
    confidence: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """R² of y = α + β·x on groups that the line has not seen: each is predicted by the line through all others.

    1 − Σ(y − ŷ)² / Σ(y − ȳ)², where ŷ and ȳ, the mean, come from the other groups (Campbell & Thompson 2008, Rev.
    Financ. Stud. 21): below 0, x predicts worse than no predictor. Groups are the units of the interval. In a
    bootstrap all copies of a group are left out together, and a resample of one group alone, which nothing can
    predict, counts as −∞.

    Args:
        x: the predictor, shape (points,).
        y: what is predicted, shape (points,).
        groups: a label for each point (its task or Ws, say), shape (points,); at least three distinct.
        method: of the interval (see the module).
        confidence: the interval's coverage, a share.
        draws: bootstrap resamples (BCa only).
        seed: of the resampling (BCa only).

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
    interval = _interval(statistic, len(sums), method, confidence, draws, seed)
    return _estimate(statistic, len(sums), "group", method, interval)


def partial_correlation(
    x: ArrayLike,
    y: ArrayLike,
    covariate: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    method: Method = "jackknife",
    confidence: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """Pearson's correlation of what a line in `covariate` leaves of x and of y.

    Args:
        x: a measure of overlap, say, shape (points,).
        y: a gap, say, shape (points,).
        covariate: what is held constant (log Ws, say), shape (points,).
        groups: a label for each point if points of a group depend on each other: groups are then resampled whole.
        method: of the interval (see the module).
        confidence: the interval's coverage, a share.
        draws: bootstrap resamples (BCa only).
        seed: of the resampling (BCa only).

    Raises:
        ValueError: for NaN, mismatched lengths, fewer than four points or three groups, or x or y that the covariate
            determines.
    """
    points = {name: vector(it, name, at_least=4) for name, it in (("x", x), ("y", y), ("covariate", covariate))}
    labels = np.arange(len(points["x"])) if groups is None else np.asarray(groups)
    same_length(**points, groups=labels)
    sums = _sums(_moments(**points), labels)
    if len(sums) < 3:
        raise ValueError(f"groups has {len(sums)} distinct labels; resampling them needs at least 3.")

    statistic = _Statistic(
        lambda weights: _partial(np.tensordot(weights, sums, axes=1)),
        lambda r: np.arctanh(np.clip(r, TINY - 1, 1 - TINY)),
        np.tanh,
        (-1.0, 1.0),
    )
    if np.isnan(statistic.of(np.ones(len(sums)))):
        raise ValueError("the covariate determines x or y; nothing is left to correlate: choose another covariate.")
    interval = _interval(statistic, len(sums), method, confidence, draws, seed)
    return _estimate(statistic, len(sums), "point" if groups is None else "group", method, interval)


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


def _estimate(statistic: _Statistic, units: int, unit: str, method: Method, interval: tuple[float, float]) -> Estimate:
    value, (low, high) = float(statistic.of(np.ones(units))), interval
    return Estimate(value, low, high, (high - low) / 2, units, f"{method} over {unit}s", unit)


def _interval(
    statistic: _Statistic, units: int, method: Method, confidence: float, draws: int, seed: int
) -> tuple[float, float]:
    confidence_level(confidence)
    if method == "jackknife":
        return _jackknife(statistic, units, confidence)
    if method == "BCa":
        number_of_draws(draws)
        return _bca(statistic, units, confidence, draws, seed)
    raise ValueError(f'method is {method!r}; give "jackknife" or "BCa".')


def _jackknife(statistic: _Statistic, units: int, confidence: float) -> tuple[float, float]:
    """Student's interval on the stabilised scale; all possible values where leaving a unit out leaves no answer."""
    left_out = statistic.of(1 - np.eye(units))
    if not np.isfinite(left_out).all():
        return statistic.limits
    centre, others = statistic.stabilise(statistic.of(np.ones(units))), statistic.stabilise(left_out)
    error = np.sqrt((units - 1) * others.var())
    half = stdtrit(units - 1, (1 + confidence) / 2) * error
    with np.errstate(over="ignore"):
        ends = statistic.restore(np.array([centre - half, centre + half]))
    return float(ends.min()), float(ends.max())


def _bca(statistic: _Statistic, units: int, confidence: float, draws: int, seed: int) -> tuple[float, float]:
    """scipy's BCa interval; percentiles where BCa is not defined (all draws on one side of the value)."""

    def of_draws(chosen: NDArray[np.int64], axis: int = -1) -> Floats:
        return statistic.of(_weights(chosen, units))

    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)
        found = bootstrap(
            (np.arange(units),),
            of_draws,
            n_resamples=draws,
            vectorized=True,
            confidence_level=confidence,
            method="BCa",
            rng=np.random.default_rng(seed),
        )
    ends = np.array(found.confidence_interval)
    if np.isnan(ends).any():
        defined = found.bootstrap_distribution[~np.isnan(found.bootstrap_distribution)]
        # "nearest": interpolating between −∞ and a number would give NaN.
        ends = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2], method="nearest")
    return float(ends[0]), float(ends[1])


def _weights(chosen: NDArray[np.int64], units: int) -> Floats:
    """How often each unit is in each draw: (…, drawn) → (…, units)."""
    rows = chosen.reshape(-1, chosen.shape[-1])
    flat = (rows + units * np.arange(len(rows))[:, None]).ravel()
    return np.bincount(flat, minlength=len(rows) * units).reshape(*chosen.shape[:-1], units).astype(np.float64)
