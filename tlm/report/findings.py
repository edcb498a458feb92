"""What an analysis hands to the reader: verdicts, tables, plots. Every figure in them comes from a study's records."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from numpy.typing import ArrayLike

from tlm.report.cells import Cell, Link, Table
from tlm.report.drawing import Plot, Point
from tlm.statistics import Estimate, difference, difference_p_value, holm, paired_bootstrap_p_value

Outcome = Literal["reproduced", "not reproduced", "yes", "no", "not resolved at this scale", "not measured"]
NOT_KNOWN = "n/a"
NOT_MEASURED: Literal["not measured"] = "not measured"
ALPHA = 0.05
LEAST_ITEMS = 2
"""An interval over items needs two."""
ONE_SAMPLE = "Each pre-training set was drawn once: seeds vary the training, not the paragraphs."
"""A note for studies of treatments."""

Question = TypeVar("Question", bound=Hashable)


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


@dataclass(frozen=True)
class Findings:
    """What a study found. Tables and plots have names that are unique within the study."""

    verdicts: list[Verdict]
    tables: list[Table] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Sentences that a reader needs to weigh the rest."""


@dataclass(frozen=True)
class Comparison:
    """Accuracy of one system minus another's, as one of a family of questions."""

    name: str
    estimate: Estimate
    p_value: float | None
    """Adjusted for the family (Holm); None where a system has one seed, which says nothing about others."""

    @property
    def resolved(self) -> bool:
        """Whether the interval excludes 0 and the corrected test agrees."""
        return self.estimate.resolved and self.p_value is not None and self.p_value <= ALPHA

    @property
    def text(self) -> str:
        """`+4.1 ± 1.4 (3 seeds), p = 0.004`, and whether it is resolved."""
        p_value = "" if self.p_value is None else f", p {_p(self.p_value)}"
        return f"{self.estimate.text(signed=True)}{p_value}{'' if self.resolved else ', not resolved'}"


def compare(family: Sequence[tuple[str, ArrayLike, ArrayLike]]) -> list[Comparison]:
    """Differences a − b of a family of questions, with p-values corrected together (Holm 1979).

    Args:
        family: (name, a, b), correctness of both systems as `tlm.statistics.difference` takes it, on the same items. Two
            systems without a seed (a committee of all members, a baseline) are tested over items alone.
    """
    estimates = [difference(a, b) for _, a, b in family]
    raw = [_raw_p(a, b, estimate) for (_, a, b), estimate in zip(family, estimates, strict=True)]
    return [
        Comparison(name, estimate, p)
        for (name, _, _), estimate, p in zip(family, estimates, adjusted(raw), strict=True)
    ]


def adjusted(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values of a family corrected together (Holm 1979); those that are None are no part of it."""
    tested = [p for p in p_values if p is not None]
    found = iter(holm(tested) if tested else ())
    return [None if p is None else float(next(found)) for p in p_values]


def compare_measured(
    family: Mapping[Question, tuple[ArrayLike | None, ArrayLike | None]],
) -> dict[Question, Comparison]:
    """`compare` for those questions of a family whose two systems were both measured; the others are left out."""
    there = {question: (a, b) for question, (a, b) in family.items() if a is not None and b is not None}
    found = compare([(str(question), a, b) for question, (a, b) in there.items()])
    return dict(zip(there, found, strict=True))


def verdict(
    claim: str,
    comparison: Comparison | None,
    *,
    paper: bool,
    positive: bool = True,
    known: str = NOT_KNOWN,
    links: tuple[Link, ...] = (),
    more: str = "",
) -> Verdict:
    """`judge` as a line for the reader; "not measured" without a comparison.

    Args:
        known: the paper's figure.
        more: what else the figure says, after the difference.
    """
    if comparison is None:
        return Verdict(claim, NOT_MEASURED, NOT_KNOWN, known)
    figure = f"{comparison.text}{f'; {more}' if more else ''}"
    return Verdict(claim, judge(comparison, paper=paper, positive=positive), figure, known, links)


def shown(measured: Estimate | Comparison | None, links: tuple[Link, ...] = ()) -> Cell:
    """An accuracy in percent, or a difference in points; "not measured" where there is none."""
    if measured is None:
        return Cell(NOT_MEASURED)
    return Cell(measured.text if isinstance(measured, Comparison) else measured.text(), links)


def point(x: float, estimate: Estimate) -> Point:
    """An estimate on a plot's axis, in percent or points."""
    return Point(x, 100 * estimate.value, 100 * estimate.low, 100 * estimate.high)


def judge(comparison: Comparison, *, paper: bool, positive: bool = True) -> Outcome:
    """The verdict on "the difference is positive" (or negative) from a measured one."""
    if not comparison.resolved:
        return "not resolved at this scale"
    if (comparison.estimate.value > 0) == positive:
        return "reproduced" if paper else "yes"
    return "not reproduced" if paper else "no"


def _raw_p(a: ArrayLike, b: ArrayLike, estimate: Estimate) -> float | None:
    """The larger of two: over seeds and items, and over items with these very runs.

    Three seeds may agree by luck, on both sides, and then narrow the first to nothing; the second knows how much these
    runs differ from item to item. A difference has to hold against both.
    """
    if estimate.seeds == 1:
        return None
    of_these_runs = paired_bootstrap_p_value(a, b)
    return max(of_these_runs, difference_p_value(a, b)) if estimate.seeds else of_these_runs


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"
