"""Mean accuracy, and the difference of two systems, with intervals over seeds and test items that hold with few seeds.

What is estimated is the expectation of the accuracy over seeds of the same recipe *and* over items of the population
that the test set was drawn from. Both are random and crossed: every seed meets every item. With S seeds, N items and
Y = θ + seed + item + seed×item, the mean's variance is σ²_seed/S + σ²_item/N + σ²_both/(S·N), and it is estimated by

- seeds:  the variance of the S seeds' accuracies, over S. It holds the first and third term.
- items:  the variance of the N items' mean correctness, over N, less the third term, which it would count twice
  (mean squares of the two-way layout: Cornfield & Tukey 1956, Ann. Math. Stat. 27; for systems and items Clark 1973,
  J. Verb. Learn. Verb. Behav. 12). The first of these two is the variance of the bootstrap over items, in closed form.

A percentile bootstrap of both levels knows nothing of the uncertainty of a variance from three seeds, and covers too
little (see `tlm.statistics.bootstrap`). Here the half-width is a quantile times the standard error. Seeds have S − 1
degrees of freedom (two unpaired systems those of Welch 1947, Biometrika 34), items N − 1. Two classical quantiles combine
them: Satterthwaite's, Student's with (Σ variances)² / Σ (variance² / freedom) (1946, Biometrics Bull. 2), and Cochran and
Cox's, the mean of both Student quantiles weighted by variance (Experimental Designs, 2nd ed. 1957, §4.14; Cochran 1964,
Biometrics 20). With three normal seeds the first covers down to 92 % and the second up to 97 %, whatever the parts'
sizes; a third of the first and two thirds of the second, which is used here, covers between 94.4 and 96.6 % (two
seeds: 92.8 to 97.4; a difference between three seeds and ten: 93.4 to 95.9). That share is this
module's own; `tests/test_statistics_coverage.py` measures what comes of it on 0/1 data for 3, 5 and 10 seeds.

Nested seeds (P pre-trainings, each fine-tuned F times): a pre-training's mean over its fine-tunings varies by both, so
that P such means are all that the formulae need, for any F. With P = 1 the fine-tunings are the units, and the
interval says nothing about other pre-trainings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import stdtrit
from scipy.stats import binomtest

from tlm.statistics.checks import Floats, confidence_level, correctness, same_items
from tlm.statistics.estimate import Estimate

COCHRAN = 2 / 3
"""The share of Cochran and Cox's quantile; the rest is Satterthwaite's."""
SMALLEST_P = 1e-30
"""Student's quantiles are sure down to here; scipy's turn infinite near 1e-300."""


def mean_accuracy(correct: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """Expected accuracy over seeds and items, with a t interval (see the module for the method).

    Args:
        correct: 0/1 of shape (items,) for a system without a seed, (seeds, items), or (pre-training seeds, fine-tuning
            seeds of each, items). One seed gives an interval over items alone, and the estimate says so.
        confidence: the interval's coverage, a share.

    Returns:
        An estimate in shares; `low` and `high` are cut to 0 and 1. Where every seed is right (or wrong) on every item,
        nothing varies: the interval is then Clopper and Pearson's for the number of items.

    Raises:
        ValueError: for NaN, values but 0 and 1, no seed, fewer than two items, or a confidence outside (0, 1).
    """
    confidence_level(confidence)
    cube = correctness(correct, "correct")
    units = seed_units(cube, seeded=np.ndim(correct) > 1)
    value = float(cube.mean())
    if cube.min() == cube.max():
        return _exact(value, cube.shape[-1], units, confidence)
    return _interval(_spread([units], cube.mean(axis=(0, 1))), value, [units], confidence, (0.0, 1.0))


def difference(a: ArrayLike, b: ArrayLike, *, paired: bool = False, confidence: float = 0.95) -> Estimate:
    """Expected accuracy of `a` minus that of `b` on the same items, with a t interval (see the module).

    Args:
        a: 0/1, in one of the shapes of `mean_accuracy`.
        b: the same items in the same order; its seeds may differ in number and nesting.
        paired: whether seed i of `a` and seed i of `b` belong together (the same pre-training or corpus sample, say).
        confidence: the interval's coverage, a share.

    Returns:
        An estimate in shares, cut to −1 and 1. `resolved` is whether the interval excludes 0; with one seed on either
        side the interval is over items alone and nothing is resolved.

    Raises:
        ValueError: as `mean_accuracy`, and if items, or the seeds of paired systems, do not match.
    """
    confidence_level(confidence)
    spread, value, systems = _compare(a, b, paired)
    return _interval(spread, value, systems, confidence, (-1.0, 1.0))


def difference_p_value(a: ArrayLike, b: ArrayLike, *, paired: bool = False) -> float:
    """Two-sided p-value of "the expected accuracies over seeds and items are equal"; arguments as of `difference`.

    It is 1 minus the confidence at which the interval of `difference` just reaches 0, and no less than 1e-30.

    Raises:
        ValueError: as `difference`, and if a system has one seed, which says nothing about other seeds.
    """
    spread, value, systems = _compare(a, b, paired)
    if any(units.count == 1 for units in systems):
        raise ValueError("a system has 1 seed; run it with at least 2, or test these runs with paired_bootstrap_test.")
    if not spread.variance:
        return SMALLEST_P if value else 1.0
    statistic = abs(value) / np.sqrt(spread.variance)

    def excess(log_p: float) -> float:
        return spread.quantile(float(np.exp(log_p))) - statistic

    log_smallest = float(np.log(SMALLEST_P))
    return float(np.exp(brentq(excess, log_smallest, 0))) if excess(log_smallest) > 0 else SMALLEST_P


@dataclass(frozen=True)
class Units:
    """The independent repetitions of a system: each a row of per-item correctness, averaged over what is nested in it."""

    rows: Floats
    """(units, items)"""
    seeded: bool
    """Whether rows differ by a seed. A system without one has a single row, and no variance but that of items."""
    unit: str

    @property
    def count(self) -> int:
        return len(self.rows) if self.seeded else 0


@dataclass(frozen=True)
class _Spread:
    """The parts of an estimate's variance, in squared shares, and their degrees of freedom."""

    seeds: float
    seeds_freedom: float
    items: float
    items_freedom: int

    @property
    def variance(self) -> float:
        return self.seeds + self.items

    def quantile(self, p: float) -> float:
        """Between Satterthwaite's, and Cochran and Cox's quantile, that leave p in two tails."""
        if not self.variance:
            return 0.0
        freedom = self.variance**2 / (self.seeds**2 / self.seeds_freedom + self.items**2 / self.items_freedom)
        # The lower tail: 1 − p / 2 would round to 1 for a small p.
        seeds, items, both = -stdtrit([self.seeds_freedom, self.items_freedom, freedom], p / 2)
        cochran = (self.seeds * seeds + self.items * items) / self.variance
        return float(COCHRAN * cochran + (1 - COCHRAN) * both)


def seed_units(cube: Floats, *, seeded: bool) -> Units:
    """Reduce (pre-training seeds, fine-tuning seeds, items) to the highest level that was repeated."""
    nested_in_one = len(cube) == 1 and cube.shape[1] > 1
    return Units(
        cube[0] if nested_in_one else cube.mean(axis=1), seeded, "fine-tuning seed" if nested_in_one else "seed"
    )


def read_pair(a: ArrayLike, b: ArrayLike, paired: bool) -> tuple[Floats, Floats]:
    """Both systems as cubes on the same items, and with the same seeds if they are paired.

    Raises:
        ValueError: if they do not match.
    """
    cube_a, cube_b = correctness(a, "a"), correctness(b, "b")
    same_items(cube_a, cube_b)
    if paired and (np.ndim(a) == 1 or np.ndim(b) == 1 or cube_a.shape != cube_b.shape):
        raise ValueError(
            f"paired systems of shapes {np.shape(a)} and {np.shape(b)}; give both the same seeds in the same order, "
            "or paired=False."
        )
    return cube_a, cube_b


def _compare(a: ArrayLike, b: ArrayLike, paired: bool) -> tuple[_Spread, float, list[Units]]:
    """The spread and value of a − b, and the systems whose seeds vary independently."""
    cube_a, cube_b = read_pair(a, b, paired)
    items = cube_a.mean(axis=(0, 1)) - cube_b.mean(axis=(0, 1))
    if paired:
        systems = [seed_units(cube_a - cube_b, seeded=True)]
    else:
        systems = [seed_units(cube, seeded=np.ndim(given) > 1) for cube, given in ((cube_a, a), (cube_b, b))]
    return _spread(systems, items), float(items.mean()), systems


def _spread(systems: list[Units], item_means: Floats) -> _Spread:
    parts = [_seed_parts(units.rows) for units in systems if len(units.rows) > 1]
    seeds = sum(part[0] for part in parts)
    squares = sum(part[0] ** 2 / part[1] for part in parts)
    # A negative remainder means that items differ by less than seed×item noise lets them: no sign of a component.
    items = max(float(item_means.var(ddof=1)) / len(item_means) - sum(part[2] for part in parts), 0.0)
    return _Spread(seeds, seeds**2 / squares if squares else 1.0, items, len(item_means) - 1)


def _seed_parts(rows: Floats) -> tuple[float, int, float]:
    """Variance of the mean from seeds, its degrees of freedom, and the part of it that is seed×item."""
    seeds, items = rows.shape
    means = rows.mean(axis=1)
    residual = rows - means[:, None] - rows.mean(axis=0) + rows.mean()
    both = float(np.square(residual).sum()) / ((seeds - 1) * (items - 1))
    return float(means.var(ddof=1)) / seeds, seeds - 1, both / (seeds * items)


def _interval(
    spread: _Spread, value: float, systems: list[Units], confidence: float, limits: tuple[float, float]
) -> Estimate:
    half = spread.quantile(1 - confidence) * float(np.sqrt(spread.variance))
    low, high = (float(np.clip(end, *limits)) for end in (value - half, value + half))
    return Estimate(value, low, high, half, *describe(systems, "t"))


def _exact(value: float, items: int, units: Units, confidence: float) -> Estimate:
    found = binomtest(round(value * items), items).proportion_ci(confidence, method="exact")
    low, high = float(found.low), float(found.high)
    return Estimate(value, low, high, max(value - low, high - value), *describe([units], "Clopper-Pearson", "items"))


def describe(systems: list[Units], method: str, over: str = "") -> tuple[int, str, str]:
    """The count, method and unit of an estimate from these systems."""
    seeded = [units for units in systems if units.seeded]
    count = min((units.count for units in seeded), default=0)
    unit = next((units.unit for units in seeded if units.unit != "seed"), "seed")
    if not over:
        over = "items" if count <= 1 else f"{unit}s and items"
    return count, f"{method} over {over}", unit
