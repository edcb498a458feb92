"""A test of two systems on the same test items, and the correction of p-values for asking often."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tlm.statistics.checks import Floats, correctness, number_of_draws, same_items, vector

DRAWS = 10_000


def paired_bootstrap_p_value(a: ArrayLike, b: ArrayLike, *, draws: int = DRAWS, seed: int = 0) -> float:
    """Two-sided p-value of "the mean accuracies of these very runs are equal in the population of items", by bootstrap.

    Each item's difference of mean correctness (over all seeds of a system) is resampled, shifted to mean 0, and
    studentised (Hall & Wilson 1991, Biometrics 47). Seeds are held fixed: for a statement about other seeds use
    `difference_p_value`.

    Args:
        a: 0/1 of shape (items,), (seeds, items) or (pre-training seeds, fine-tuning seeds, items).
        b: the same items in the same order; any number of seeds.
        draws: bootstrap resamples; the p-value is at least 1 / (draws + 1).
        seed: of the resampling.

    Raises:
        ValueError: for NaN, values but 0 and 1, no seed, fewer than two items, items that do not match, or few draws.
    """
    number_of_draws(draws)
    cube_a, cube_b = correctness(a, "a"), correctness(b, "b")
    same_items(cube_a, cube_b)
    items = cube_a.mean(axis=(0, 1)) - cube_b.mean(axis=(0, 1))
    if not items.any():
        return 1.0
    observed = _studentised(items.mean(), items.var(), len(items))
    means, variances = _resampled_moments(items, draws, np.random.default_rng(seed))
    drawn = _studentised(means - items.mean(), variances, len(items))
    return (1 + int((np.abs(drawn) >= abs(observed)).sum())) / (draws + 1)


def holm(p_values: ArrayLike) -> Floats:
    """P-values of a family, adjusted so that rejecting those ≤ α makes one false claim or more with probability ≤ α.

    The i-th smallest of m is multiplied by m + 1 − i, then raised to the one before it (Holm 1979, Scand. J. Stat. 6).

    Raises:
        ValueError: if the family is empty, not 1-D, or holds NaN or what is no probability.
    """
    raw = vector(p_values, "p_values")
    if raw.min() < 0 or raw.max() > 1:
        raise ValueError(f"p_values holds {raw.min() if raw.min() < 0 else raw.max():g}; give values from 0 to 1.")
    order = np.argsort(raw, kind="stable")
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1)), 1)
    return adjusted


def _resampled_moments(items: Floats, draws: int, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """The mean and the variance of each resample, both (draws,).

    A mean correctness takes few values, so that how often each value is drawn (one multinomial) stands for the items.
    """
    values, counts = np.unique(np.round(items, 12), return_counts=True)
    shares = generator.multinomial(len(items), counts / len(items), size=draws) / len(items)
    means = shares @ values
    return means, np.maximum(shares @ values**2 - means**2, 0)


def _studentised(mean: Floats, variance: Floats, items: int) -> Floats:
    """Mean over its standard error; a resample without variance is as extreme as can be, or not at all."""
    error = np.sqrt(np.asarray(variance) / (items - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(error > 1e-12, mean / error, np.where(np.abs(mean) > 1e-12, np.inf, 0.0))
