"""Tests of two systems on the same items, and the correction for asking often."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from tlm.statistics.accuracy import read_pair
from tlm.statistics.bootstrap import DRAWS
from tlm.statistics.checks import Floats, number_of_draws, vector


@dataclass(frozen=True)
class PairedTest:
    """A two-sided test of equal accuracy."""

    difference: float
    """Accuracy of a minus that of b, in shares."""
    p_value: float
    items: int
    discordant: int
    """Items on which the systems differ."""
    method: str


def mcnemar(a: ArrayLike, b: ArrayLike) -> PairedTest:
    """McNemar's exact test of two runs: under equal accuracy, each is alone right on half of the items where they differ.

    It is about these two runs and the population of items, not about other seeds (McNemar 1947, Psychometrika 12).

    Args:
        a: 0/1 of shape (items,), or (1, items).
        b: the same items in the same order.

    Raises:
        ValueError: for NaN, values but 0 and 1, several seeds, fewer than two items, or items that do not match.
    """
    cube_a, cube_b = read_pair(a, b, paired=False)
    for name, cube in (("a", cube_a), ("b", cube_b)):
        if cube.shape[:2] != (1, 1):
            raise ValueError(f"{name} has {cube.shape[0] * cube.shape[1]} runs; use paired_bootstrap_test for several.")
    items = (cube_a - cube_b)[0, 0]
    only_a, discordant = int((items > 0).sum()), int((items != 0).sum())
    p_value = float(binomtest(only_a, discordant).pvalue) if discordant else 1.0
    return PairedTest(float(items.mean()), p_value, len(items), discordant, "McNemar, exact")


def paired_bootstrap_test(a: ArrayLike, b: ArrayLike, *, draws: int = DRAWS, seed: int = 0) -> PairedTest:
    """Bootstrap test, over items, that the mean accuracies of these runs are equal in the population of items.

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
    cube_a, cube_b = read_pair(a, b, paired=False)
    items = cube_a.mean(axis=(0, 1)) - cube_b.mean(axis=(0, 1))
    observed = _studentised(items.mean(), items.var(), len(items))
    means, variances = _resampled_moments(items, draws, np.random.default_rng(seed))
    drawn = _studentised(means - items.mean(), variances, len(items))
    p_value = (1 + int((np.abs(drawn) >= abs(observed)).sum())) / (draws + 1)
    discordant = int((items != 0).sum())
    return PairedTest(float(items.mean()), p_value if discordant else 1.0, len(items), discordant, "paired bootstrap")


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
    """Mean and variance of each resample.

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
