"""The difference of two estimates that have nothing in common: other items, other seeds."""

from __future__ import annotations

import math

from scipy.stats import norm

from tlm.statistics.estimate import Estimate

QUANTILE = float(norm.ppf(0.975))


def independent_difference(a: Estimate, b: Estimate) -> Estimate:
    """a − b with a 95 % interval from those of both, which are 95 % intervals of independent estimates.

    Half-widths are added as roots of sums of squares. They are already quantiles of Student's t, each with its own degrees
    of freedom, so that the sum is no shorter than an interval of the joint standard error would be.
    """
    value, half = a.value - b.value, math.hypot(a.half_width, b.half_width)
    seeds = min(a.seeds, b.seeds)
    return Estimate(value, value - half, value + half, half, seeds, f"of {a.method}", a.unit)


def independent_p_value(difference: Estimate) -> float:
    """Two-sided p-value of "it is 0" that is 0.05 where the interval of `independent_difference` just reaches 0."""
    if not difference.half_width:
        return 1.0 if not difference.value else 0.0
    return float(2 * norm.sf(QUANTILE * abs(difference.value) / difference.half_width))
