"""What it takes to reach an accuracy: a curve of accuracy over cost, read backwards, with an interval.

Costs are paragraphs, operations or the like. Curves are made non-decreasing (isotonic regression by least squares: Barlow
et al. 1972) and read by linear interpolation in log cost; on a plateau the smallest cost counts. Nothing is extrapolated:
what lies beyond a curve's end is a bound.

Intervals are quantiles of a parametric bootstrap. Items are common to all systems: their part of the mean accuracies is
drawn as normal, with the covariance of the items' mean correctness. Seeds are each system's own, and few: their part is
drawn from Student's t with their degrees of freedom. Both parts are those of `tlm.statistics.accuracy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from tlm.statistics.checks import Floats, confidence_level, correctness, number_of_draws, same_items, vector
from tlm.statistics.estimate import Estimate
from tlm.statistics.spread import describe, seed_parts, seed_units

DRAWS = 4_000
ROUNDING = 1e-12
"""Accuracies that differ by less are the same."""
Bound = Literal["", ">", "<"]


@dataclass(frozen=True)
class Reached:
    """A cost, or a ratio of costs."""

    estimate: Estimate
    """Its ends may be 0 and infinity, where some draws are beyond the end of a curve."""
    bound: Bound = ""
    """Whether the value itself is beyond: the truth is then above it (">") or below it ("<")."""

    def text(self, digits: int = 1) -> str:
        """`12.4 [10.2, 15.0] (3 seeds)`, `> 12.4 [10.2, no end] (3 seeds)`; one seed has no interval."""
        found = self.estimate
        ends = [f"{end:,.{digits}f}" if np.isfinite(end) else "no end" for end in (found.low, found.high)]
        value = f"{self.bound} {found.value:,.{digits}f}".strip()
        return (
            f"{value} ({found.seed_count})" if found.seeds == 1 else f"{value} [{', '.join(ends)}] ({found.seed_count})"
        )


Curve: TypeAlias = Sequence[tuple[float, ArrayLike]]
"""(cost, correctness of the systems' runs in a shape of `tlm.statistics.mean_accuracy`) of each point, all on one set of
items."""


def cost_to_reach(curve: Curve, target: ArrayLike, *, confidence: float = 0.95, draws: int = DRAWS) -> Reached:
    """The cost at which a curve has the accuracy of another system, on the same items.

    Raises:
        ValueError: as `tlm.statistics.mean_accuracy`, for a cost that is not positive or is given twice, and for no point.
    """
    costs_K, systems = _read(curve)
    accuracies_DK = _drawn([*systems, target], draws)
    return _summed_up(_crossed(costs_K, accuracies_DK[:, :-1], accuracies_DK[:, -1]), [*systems, target], confidence)


def cost_ratio(curve: Curve, other: Curve, *, confidence: float = 0.95, draws: int = DRAWS) -> Reached:
    """How many times the cost of `curve` another needs for the same accuracy: that which the *other* reaches at its end.

    Where `curve` has it at its smallest cost already, the ratio is a bound from below (">"); where it never has it, one
    from above ("<").

    Raises:
        ValueError: as `cost_to_reach`.
    """
    (costs_K, systems), (costs_J, others) = _read(curve), _read(other)
    accuracies_D = _drawn([*systems, *others], draws)
    own_DK, other_DJ = accuracies_D[:, : len(systems)], _monotone(accuracies_D[:, len(systems) :])
    target_D = other_DJ[:, -1]
    theirs_D, _ = _crossed(costs_J, other_DJ, target_D)
    ours_D, beyond_D = _crossed(costs_K, own_DK, target_D)
    return _summed_up((theirs_D - ours_D, -beyond_D), [*systems, *others], confidence)


# --- inside ---


def _read(curve: Curve) -> tuple[Floats, list[ArrayLike]]:
    """Log costs, ascending, and the systems at them."""
    costs_K = vector([cost for cost, _ in curve], "costs")
    if costs_K.min() <= 0 or len(np.unique(costs_K)) < len(costs_K):
        raise ValueError(f"costs are {costs_K.tolist()}; give positive ones, each once.")
    order = np.argsort(costs_K)
    return np.log(costs_K[order]), [curve[place][1] for place in order]


def _drawn(systems: Sequence[ArrayLike], draws: int) -> Floats:
    """Accuracies (1 + draws, systems): the measured ones first."""
    number_of_draws(draws)
    cubes = [correctness(system, f"system {place}") for place, system in enumerate(systems)]
    for cube in cubes[1:]:
        same_items(cubes[0], cube)
    items_KN = np.array([cube.mean(axis=(0, 1)) for cube in cubes])
    means_K = items_KN.mean(axis=1)
    generator = np.random.default_rng(0)
    of_items = np.atleast_2d(np.cov(items_KN)) / items_KN.shape[1]
    drawn_DK = generator.multivariate_normal(means_K, of_items, size=draws, method="eigh")
    for place, (cube, system) in enumerate(zip(cubes, systems, strict=True)):
        rows = seed_units(cube, seeded=np.ndim(system) > 1).rows
        if len(rows) > 1:
            variance, freedom, noise = seed_parts(rows)
            # Seed×item noise is among the items' part already.
            deviation = float(np.sqrt(max(variance - noise, 0.0)))
            drawn_DK[:, place] += deviation * generator.standard_t(freedom, size=draws)
    return np.vstack([means_K, drawn_DK])


def _monotone(curves_DK: Floats) -> Floats:
    """Each row's isotonic regression: the largest, over beginnings a ≤ k, of the smallest mean from a to an end b ≥ k."""
    points = curves_DK.shape[1]
    sums = np.concatenate([np.zeros((len(curves_DK), 1)), np.cumsum(curves_DK, axis=1)], axis=1)
    fitted = np.empty_like(curves_DK)
    for k in range(points):
        means = [
            np.min([(sums[:, b + 1] - sums[:, a]) / (b + 1 - a) for b in range(k, points)], axis=0)
            for a in range(k + 1)
        ]
        fitted[:, k] = np.max(means, axis=0)
    return fitted


def _crossed(costs_K: Floats, curves_DK: Floats, targets_D: Floats) -> tuple[Floats, Floats]:
    """The log cost at which each curve reaches its target, and −1 where it lies below the first point, 1 above the last.

    There the cost is that of the end.
    """
    fitted_DK = _monotone(curves_DK)
    below_D, above_D = targets_D < fitted_DK[:, 0] - ROUNDING, targets_D > fitted_DK[:, -1] + ROUNDING
    reached_D = np.clip((fitted_DK < targets_D[:, None] - ROUNDING).sum(axis=1), 0, len(costs_K) - 1)
    before_D = np.maximum(reached_D - 1, 0)
    rows = np.arange(len(targets_D))
    low_D, high_D = fitted_DK[rows, before_D], fitted_DK[rows, reached_D]
    with np.errstate(divide="ignore", invalid="ignore"):
        share_D = np.where(high_D > low_D, (targets_D - low_D) / (high_D - low_D), 1.0)
    cost_D = costs_K[before_D] + np.clip(share_D, 0, 1) * (costs_K[reached_D] - costs_K[before_D])
    return cost_D, above_D.astype(float) - below_D.astype(float)


def _summed_up(found: tuple[Floats, Floats], systems: Sequence[ArrayLike], confidence: float) -> Reached:
    """The measured value and quantiles of the drawn ones, where those beyond an end may be anything there."""
    confidence_level(confidence)
    log_D, beyond_D = found
    lowest = np.where(beyond_D < 0, -np.inf, log_D)[1:]
    highest = np.where(beyond_D > 0, np.inf, log_D)[1:]
    low = float(np.exp(np.quantile(lowest, (1 - confidence) / 2, method="lower")))
    high = float(np.exp(np.quantile(highest, (1 + confidence) / 2, method="higher")))
    cubes = [(correctness(system, "a system"), np.ndim(system) > 1) for system in systems]
    described = describe([seed_units(cube, seeded=seeded) for cube, seeded in cubes], "parametric bootstrap")
    bounds: dict[float, Bound] = {-1.0: "<", 0.0: "", 1.0: ">"}
    return Reached(
        Estimate(float(np.exp(log_D[0])), low, high, (high - low) / 2, *described), bounds[float(beyond_D[0])]
    )
