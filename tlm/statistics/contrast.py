"""Sums of several systems' accuracies with chosen weights, and ratios of two such sums: trends, and shares of a gap.

The variance is that of `tlm.statistics.accuracy`, for any number of systems: seeds of different systems are independent,
the items are common to all. A difference is the contrast with weights 1 and −1.

Systems may be `matched`: the seeds of one are those of the others, in the same order (a student, its twin, the committee
that taught it). A seed's repetition is then the weighted sum of all of them, and what they share by it cancels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from tlm.statistics.checks import Floats, confidence_level, correctness, same_items, vector
from tlm.statistics.estimate import Estimate
from tlm.statistics.spread import Units, interval, p_value, seed_units, spread_of

FARTHEST = 1e6
"""A ratio whose interval reaches farther than this from it has no end there."""


def contrast(
    systems: Sequence[ArrayLike], weights: ArrayLike, *, confidence: float = 0.95, matched: bool = False
) -> Estimate:
    """Σ weight × expected accuracy, with a t interval over seeds and items.

    Args:
        systems: 0/1 in one of the shapes of `mean_accuracy`, all on the same items in the same order.
        weights: one for each system.
        matched: whether the systems have the same seeds, in the same order.

    Raises:
        ValueError: as `mean_accuracy`, and if items, matched seeds, or numbers of systems and weights do not agree.
    """
    confidence_level(confidence)
    cubes, given = _read(systems, weights)
    units, items_N = _weighted(cubes, systems, given, matched)
    limits = (float(np.minimum(given, 0).sum()), float(np.maximum(given, 0).sum()))
    return interval(spread_of(units, items_N), float(items_N.mean()), units, confidence, limits)


def contrast_p_value(systems: Sequence[ArrayLike], weights: ArrayLike, *, matched: bool = False) -> float:
    """Two-sided p-value of "the contrast is 0", no less than 1e-30; arguments as of `contrast`.

    Raises:
        ValueError: as `contrast`, and if a system has one seed, which says nothing about other seeds.
    """
    cubes, given = _read(systems, weights)
    units, items_N = _weighted(cubes, systems, given, matched)
    if any(each.count == 1 for each in units):
        raise ValueError(
            "a system has 1 seed, which says nothing about others; run it with at least 2, or test these runs with "
            "paired_bootstrap_p_value."
        )
    return p_value(spread_of(units, items_N), float(items_N.mean()))


def share_of_gap(
    part: ArrayLike, whole: ArrayLike, base: ArrayLike, *, confidence: float = 0.95, matched: bool = False
) -> Estimate | None:
    """(part − base) / (whole − base) of three systems' expected accuracies, with Fieller's interval over seeds and items.

    The interval holds the shares r for which part − r·whole − (1 − r)·base is not told from 0 (Fieller 1954, J. R. Stat.
    Soc. B 16). It is exact where the delta method is not, with a denominator that is not many times its error.

    Returns:
        A share, which noise may put below 0 or above 1. None where the gap whole − base is not resolved: the interval
        would then have no end.

    Raises:
        ValueError: as `contrast`.
    """
    systems = [part, whole, base]
    gap = contrast([whole, base], [1, -1], confidence=confidence, matched=matched)
    if not gap.low > 0 and not gap.high < 0:
        return None
    cubes, _ = _read(systems, [1, 1, 1])
    accuracies = [float(cube.mean()) for cube in cubes]
    value = (accuracies[0] - accuracies[2]) / (accuracies[1] - accuracies[2])

    def excess(share: float) -> float:
        """Above 0 where the data tell this share from the true one."""
        units, items_N = _weighted(cubes, systems, np.array([1.0, -share, share - 1.0]), matched)
        spread = spread_of(units, items_N)
        return abs(float(items_N.mean())) - spread.quantile(1 - confidence) * float(np.sqrt(spread.variance))

    low, high = (_end(excess, value, direction) for direction in (-1.0, 1.0))
    units, _ = _weighted(cubes, systems, np.ones(3), matched)
    count = min((each.count for each in units if each.seeded), default=0)
    over = "items" if count <= 1 else "seeds and items"
    return Estimate(value, low, high, (high - low) / 2, count, f"Fieller over {over}")


def _end(excess: Callable[[float], float], value: float, direction: float) -> float:
    """The end of the interval on one side of the ratio: below it for direction −1, above it for 1."""
    inner, step = 0.0, 0.01
    while excess(value + direction * step) <= 0:
        inner, step = step, 2 * step
        if step > FARTHEST:
            return direction * float("inf")
    if not inner and excess(value) >= 0:  # nothing varies: the interval is the value
        return value
    from scipy.optimize import brentq  # takes long to import, and who only reads results needs it not

    return value + direction * float(brentq(lambda distance: excess(value + direction * distance), inner, step))


def _read(systems: Sequence[ArrayLike], weights: ArrayLike) -> tuple[list[Floats], Floats]:
    cubes = [correctness(system, f"system {place}") for place, system in enumerate(systems)]
    given = vector(weights, "weights")
    if len(cubes) != len(given):
        raise ValueError(f"{len(cubes)} systems and {len(given)} weights; give one weight for each.")
    for cube in cubes[1:]:
        same_items(cubes[0], cube)
    return cubes, given


def _weighted(
    cubes: list[Floats], systems: Sequence[ArrayLike], weights: Floats, matched: bool
) -> tuple[list[Units], Floats]:
    """Each system's units times its weight, or the sums of those that are matched, and the contrast of each item."""
    units = [
        seed_units(weight * cube, seeded=np.ndim(system) > 1)
        for cube, system, weight in zip(cubes, systems, weights, strict=True)
    ]
    items_N = np.sum([weight * cube.mean(axis=(0, 1)) for cube, weight in zip(cubes, weights, strict=True)], axis=0)
    return [_summed(units)] if matched else units, items_N


def _summed(units: list[Units]) -> Units:
    """One row for each seed that all systems have."""
    counts = [each.count for each in units]
    if len(set(counts)) > 1:
        raise ValueError(f"systems have {counts} repetitions; match those that have the same seeds.")
    return Units(np.sum([each.rows for each in units], axis=0), units[0].seeded, units[0].unit)
