"""How much an estimate from seeds and items varies: the method of `tlm.statistics.accuracy`, for any sum of systems."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from tlm.statistics.checks import Floats
from tlm.statistics.estimate import Estimate

COCHRAN = 2 / 3
"""The share of Cochran and Cox's quantile; the rest is Satterthwaite's."""
SMALLEST_P = 1e-30
"""Student's quantiles are sure down to here; scipy's turn infinite near 1e-300."""


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
class Spread:
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


def spread_of(systems: list[Units], item_means: Floats) -> Spread:
    """The spread of a sum of systems, and of its per-item means (items,)."""
    parts = [seed_parts(units.rows) for units in systems if len(units.rows) > 1]
    seeds = sum(part[0] for part in parts)
    squares = sum(part[0] ** 2 / part[1] for part in parts)
    # A negative remainder means that items differ by less than seed×item noise lets them: no sign of a component.
    items = max(float(item_means.var(ddof=1)) / len(item_means) - sum(part[2] for part in parts), 0.0)
    return Spread(seeds, seeds**2 / squares if squares else 1.0, items, len(item_means) - 1)


def seed_parts(rows: Floats) -> tuple[float, int, float]:
    """Variance of the mean from seeds, its degrees of freedom, and the part of it that is seed×item."""
    seeds, items = rows.shape
    means = rows.mean(axis=1)
    residual = rows - means[:, None] - rows.mean(axis=0) + rows.mean()
    both = float(np.square(residual).sum()) / ((seeds - 1) * (items - 1))
    return float(means.var(ddof=1)) / seeds, seeds - 1, both / (seeds * items)


def interval(
    spread: Spread, value: float, systems: list[Units], confidence: float, limits: tuple[float, float]
) -> Estimate:
    """A t interval around `value`, cut to `limits`."""
    half = spread.quantile(1 - confidence) * float(np.sqrt(spread.variance))
    low, high = (float(np.clip(end, *limits)) for end in (value - half, value + half))
    return Estimate(value, low, high, half, *describe(systems, "t"))


def exact_interval(value: float, items: int, units: Units, confidence: float) -> Estimate:
    """Clopper and Pearson's interval, where every seed is right (or wrong) on every item."""
    from scipy.stats import binomtest  # takes long to import, and who only reads results needs it not

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


def p_value(spread: Spread, value: float) -> float:
    """Two-sided p-value of "the expectation is 0": 1 minus the confidence at which the interval just reaches it."""
    if not spread.variance:
        return SMALLEST_P if value else 1.0
    statistic = abs(value) / np.sqrt(spread.variance)

    def excess(log_p: float) -> float:
        return spread.quantile(float(np.exp(log_p))) - statistic

    log_smallest = float(np.log(SMALLEST_P))
    from scipy.optimize import brentq  # as above

    return float(np.exp(brentq(excess, log_smallest, 0))) if excess(log_smallest) > 0 else SMALLEST_P
