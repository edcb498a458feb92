"""The mean of a benchmark's score over seeds and over units (of BLiMP its paradigms), by a bootstrap of two levels.

Units are resampled. Seeds are few, and resampling three of them would understate what they vary: their part is drawn from
Student's t with their degrees of freedom, as in `tlm.statistics.reaching`. The noise of a seed on a unit is in both levels,
so that intervals are rather too wide than too narrow. A seed's deviation is common to all units.

Shapes: S seeds, U units, D draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tlm.statistics.checks import Floats, confidence_level, number_of_draws
from tlm.statistics.estimate import Estimate

DRAWS = 4_000


@dataclass(frozen=True)
class TwoLevel:
    """A mean with its interval, and the draws that it is from."""

    estimate: Estimate
    draws_D: Floats

    def p_value(self, at: float = 0.0) -> float | None:
        """Two-sided, of "the expectation is `at`": no less than 2 / (D + 1). None with one seed, which says nothing about
        others."""
        if self.estimate.seeds == 1:
            return None
        below, above = int((self.draws_D <= at).sum()), int((self.draws_D >= at).sum())
        return min(1.0, 2 * (1 + min(below, above)) / (len(self.draws_D) + 1))


def two_level(
    systems: Sequence[ArrayLike],
    weights: Sequence[float] = (1.0,),
    *,
    confidence: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> TwoLevel:
    """Σ weight × expected score, of one system or of several that have the same seeds and the same units.

    Args:
        systems: scores (S, U), the i-th rows of all of the same seed.
        weights: one for each system; a difference is (1, -1).
        seed: of the draws.

    Raises:
        ValueError: if shapes differ or are not (S, U) with two units at least, or a score is not finite.
    """
    confidence_level(confidence)
    number_of_draws(draws)
    arrays = [np.asarray(system, dtype=np.float64) for system in systems]
    if len(arrays) != len(weights) or len({array.shape for array in arrays}) != 1:
        raise ValueError(
            f"{len(weights)} weights for shapes {[array.shape for array in arrays]}; give one shape to all."
        )
    values_SU = np.sum([weight * array for weight, array in zip(weights, arrays, strict=True)], axis=0)
    if values_SU.ndim != 2 or values_SU.shape[0] < 1 or values_SU.shape[1] < 2:
        raise ValueError(f"scores have shape {values_SU.shape}; give (seeds, units), two units at least.")
    if not np.isfinite(values_SU).all():
        raise ValueError("a score is not finite; leave out units that are not scored.")
    generator = np.random.default_rng(seed)
    draws_D = _resampled_means(values_SU.mean(axis=0), draws, generator) + _seeds(values_SU, draws, generator)
    low, high = (float(np.quantile(draws_D, side)) for side in ((1 - confidence) / 2, (1 + confidence) / 2))
    value, count = float(values_SU.mean()), len(values_SU)
    over = "units" if count == 1 else "seeds and units"
    return TwoLevel(Estimate(value, low, high, (high - low) / 2, count, f"bootstrap over {over}"), draws_D)


def _resampled_means(values_U: Floats, draws: int, generator: np.random.Generator) -> Floats:
    """(D,). Items take few values, so that how often each value is drawn (one multinomial) stands for them."""
    values, counts = np.unique(np.round(values_U, 12), return_counts=True)
    shares = generator.multinomial(len(values_U), counts / len(values_U), size=draws) / len(values_U)
    return np.asarray(shares @ values)


def _seeds(values_SU: Floats, draws: int, generator: np.random.Generator) -> Floats | float:
    """(D,): by how much the mean over so many seeds is off; 0 with one, of which that is not known."""
    count = len(values_SU)
    if count == 1:
        return 0.0
    error = float(values_SU.mean(axis=1).std(ddof=1)) / np.sqrt(count)
    return np.asarray(error * generator.standard_t(count - 1, size=draws))
