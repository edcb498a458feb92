"""A number with its interval, and the one way in which it is written."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A value, the interval around it, and what varied to give that interval.

    Accuracies and their differences are shares (0 to 1, −1 to 1), correlations and R² are pure numbers.
    """

    value: float
    low: float
    high: float
    half_width: float
    """Of the interval before `low` and `high` were cut to possible values; half its length if it is not symmetric."""
    seeds: int
    """Independent repetitions behind the interval (of the system that has fewer); 0 where nothing was seeded."""
    method: str
    unit: str = "seed"
    """What `seeds` counts, in the singular."""

    @property
    def resolved(self) -> bool:
        """Whether 0 lies outside the interval. Never with one seed: its interval knows nothing of other seeds."""
        return self.seeds != 1 and not self.low <= 0 <= self.high

    @property
    def seed_count(self) -> str:
        """`1 seed`, `3 seeds`, `no seed`."""
        return f"{self.seeds or 'no'} {self.unit}{'s' if self.seeds > 1 else ''}"

    def text(self, *, scale: float = 100, digits: int = 1, signed: bool = False) -> str:
        """`36.5 ± 0.8 (3 seeds)`; one seed, which bounds nothing, is `36.5 (1 seed)`.

        An interval that is not symmetric (a jackknife's, Fieller's) is written out: `0.62 [0.31, 0.80] (12 points)`.
        """
        form = f"{'+' if signed else ''},.{digits}f"
        value = _minus(f"{scale * self.value:{form}}")
        if self.seeds == 1:
            return f"{value} ({self.seed_count})"
        # No end of a symmetric interval, cut or not, is farther from the value than its half-width.
        if max(self.high - self.value, self.value - self.low) > self.half_width * (1 + 1e-6):
            low, high = (_minus(f"{scale * end:{form}}") for end in (self.low, self.high))
            return f"{value} [{low}, {high}] ({self.seed_count})"
        return f"{value} ± {scale * self.half_width:,.{digits}f} ({self.seed_count})"

    def __str__(self) -> str:
        return self.text()


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")
