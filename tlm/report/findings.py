"""What an analysis hands to the reader: verdicts, tables, plots, notes, every figure from a study's records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Literal

from tlm.report.formatting import Link, Table
from tlm.statistics import Estimate

if TYPE_CHECKING:
    from tlm.report.drawing import Plot

UNDECIDED: Literal["undecided at this scale"] = "undecided at this scale"
NOT_MEASURED: Literal["not measured"] = "not measured"
Outcome = Literal["reproduced", "not reproduced", "yes", "no", "undecided at this scale", "not measured"]
"""The first two answer a claim of the paper, the next two an open question. Undecided is what was measured and allows both
answers; not measured is what lacks something it needs."""
NOT_KNOWN = "n/a"
Unit = Literal[
    "points",
    "points a doubling of labels",
    "points for each 1,000 missing tokens",
    "% of the gap",
    "% of the advantage",
    "R²",
    "correlation",
    "times",
    "paragraphs",
    "bits a byte",
]
"""What an estimate counts once it is written: points and percent are a hundred times the share that is kept."""
PURE: tuple[Unit, ...] = ("R²", "correlation", "times", "paragraphs", "bits a byte")
"""Written as they are kept."""
ONE_SAMPLE = "Each pre-training set was drawn once: seeds vary the training, not the paragraphs."
"""A note for studies of treatments."""


@dataclass(frozen=True)
class Verdict:
    """One claim of the paper, or one open question, and what came out."""

    claim: str
    outcome: Outcome
    figure: str
    """What was measured, with its interval and the number of seeds; accuracies in percent, differences in points."""
    paper: str = NOT_KNOWN
    """The paper's figure where it is known."""
    links: tuple[Link, ...] = ()
    """The MLflow runs behind the figure."""
    estimate: Estimate | None = None
    """What the outcome rests on, with its 95 % interval; None where nothing was measured."""
    unit: Unit = "points"
    """Of the estimate."""

    @property
    def decided(self) -> bool:
        """Whether there is an answer; "no" is one."""
        return self.outcome not in (UNDECIDED, NOT_MEASURED)

    @property
    def half_width(self) -> float | None:
        """Of the estimate's 95 % interval, in `unit`; None without an estimate, with one seed, which bounds nothing, and
        where the interval has no end."""
        if self.estimate is None or self.estimate.seeds == 1 or not isfinite(self.estimate.half_width):
            return None
        return self.estimate.half_width * (1 if self.unit in PURE else 100)


@dataclass(frozen=True)
class Findings:
    """What a study found. Tables and plots have names that are unique within the study."""

    verdicts: list[Verdict] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Sentences that a reader needs to weigh the rest."""


def tally(verdicts: Sequence[Verdict]) -> str:
    """`41 of 53 verdicts are decided; of the others the widest half-width is 2.4 points, 1 not measured.`"""
    open_ones = [verdict for verdict in verdicts if not verdict.decided]
    said = f"{len(verdicts) - len(open_ones)} of {len(verdicts)} verdicts are decided"
    parts: list[str] = []
    for unit in dict.fromkeys(verdict.unit for verdict in open_ones):
        widths = [width for v in open_ones if v.unit == unit and (width := v.half_width) is not None]
        if widths:
            number = f"{max(widths):.2f}" if unit in PURE else f"{max(widths):.1f}"
            parts.append(f"{'the widest half-width is ' if not parts else ''}{number} {unit}")
    unmeasured = sum(verdict.outcome == NOT_MEASURED for verdict in open_ones)
    unbounded = sum(verdict.outcome == UNDECIDED and verdict.half_width is None for verdict in open_ones)
    parts += [f"{unbounded} without an interval"] if unbounded else []
    parts += [f"{unmeasured} not measured"] if unmeasured else []
    return f"{said}; of the others {', '.join(parts)}." if parts else f"{said}."
