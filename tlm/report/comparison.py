"""Two systems compared: how a difference is written, when it is resolved, and when a verdict may rest on it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from numpy.typing import ArrayLike

from tlm.report.drawing import Point
from tlm.report.findings import NOT_KNOWN, NOT_MEASURED, UNDECIDED, Outcome, Unit, Verdict
from tlm.report.formatting import Cell, Link
from tlm.statistics import Estimate, difference, difference_p_value, holm, paired_bootstrap_p_value

ALPHA = 0.05
HOW_TO_READ = (
    "± is the half-width of the 95 % confidence interval over seeds and test items (Student's t); an interval that is not "
    "symmetric stands in brackets, and error bars of plots are such intervals. A difference is resolved if its interval "
    "excludes 0. One seed says nothing about others: it has no interval, and no difference of it is resolved."
)
"""Said once on every page with such figures."""
HOW_VERDICTS_FALL = (
    "A verdict asks more than a resolved difference, because a study asks several questions: its p-value, corrected over "
    "the questions that are asked together (Holm), is at most 0.05. The p-value is the larger of the one over seeds and "
    "items and the one over items with these very runs (paired bootstrap)."
)

Question = TypeVar("Question", bound=Hashable)


@dataclass(frozen=True)
class Comparison:
    """Accuracy of one system minus another's, as one of a family of questions."""

    name: str
    estimate: Estimate
    p_value: float | None
    """Adjusted for the family (Holm); None where a system has one seed, which says nothing about others."""

    @property
    def resolved(self) -> bool:
        """Whether the difference by itself is told from 0: `Estimate.resolved`, as in every table."""
        return self.estimate.resolved

    @property
    def conclusive(self) -> bool:
        """Whether a verdict may rest on it: it is resolved, and the test that knows of the whole family agrees."""
        return self.resolved and self.p_value is not None and self.p_value <= ALPHA

    @property
    def text(self) -> str:
        """`+4.1 ± 1.4 (3 seeds), p = 0.004`, and whether it is resolved."""
        p_value = "" if self.p_value is None else f", p {_p(self.p_value)}"
        return f"{self.estimate.text(signed=True)}{p_value}{_remark(self.estimate)}"


def difference_text(estimate: Estimate) -> str:
    """A difference in points that is no part of a family: `+4.1 ± 1.4 (3 seeds)`, and whether it is resolved."""
    return f"{estimate.text(signed=True)}{_remark(estimate)}"


def _remark(estimate: Estimate) -> str:
    return "" if estimate.resolved else ", not resolved"


def compare(family: Sequence[tuple[str, ArrayLike, ArrayLike]], *, matched: bool = False) -> list[Comparison]:
    """Differences a − b of a family of questions, with p-values corrected together (Holm 1979).

    Args:
        family: (name, a, b), correctness of both systems as `tlm.statistics.difference` takes it, on the same items. Two
            systems without a seed (a committee of all members, a baseline) are tested over items alone.
        matched: whether a and b have the same seeds, in the same order.
    """
    estimates = [difference(a, b, matched=matched) for _, a, b in family]
    raw = [_raw_p(a, b, estimate, matched) for (_, a, b), estimate in zip(family, estimates, strict=True)]
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
    family: Mapping[Question, tuple[ArrayLike | None, ArrayLike | None]], *, matched: bool = False
) -> dict[Question, Comparison]:
    """`compare` for those questions of a family whose two systems were both measured; the others are left out."""
    there = {question: (a, b) for question, (a, b) in family.items() if a is not None and b is not None}
    found = compare([(str(question), a, b) for question, (a, b) in there.items()], matched=matched)
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
    unit: Unit = "points",
) -> Verdict:
    """`judge` as a line for the reader; "not measured" without a comparison.

    Args:
        known: the paper's figure.
        more: what else the figure says, after the difference.
        unit: of the difference.
    """
    if comparison is None:
        return Verdict(claim, NOT_MEASURED, NOT_KNOWN, known)
    figure = f"{comparison.text}{f'; {more}' if more else ''}"
    outcome = judge(comparison, paper=paper, positive=positive)
    return Verdict(claim, outcome, figure, known, links, comparison.estimate, unit)


def shown(measured: Estimate | Comparison | None, links: tuple[Link, ...] = ()) -> Cell:
    """An accuracy in percent, or a difference in points; "not measured" where there is none."""
    if measured is None:
        return Cell(NOT_MEASURED)
    return Cell(measured.text if isinstance(measured, Comparison) else measured.text(), links)


def point(x: float, estimate: Estimate) -> Point:
    """An estimate on a plot's axis, in percent or points; one seed has no interval to draw."""
    low, high = (estimate.value, estimate.value) if estimate.seeds == 1 else (estimate.low, estimate.high)
    return Point(x, 100 * estimate.value, 100 * low, 100 * high)


def judge(comparison: Comparison, *, paper: bool, positive: bool = True) -> Outcome:
    """The verdict on "the difference is positive" (or negative) from a measured one."""
    if not comparison.conclusive:
        return UNDECIDED
    if (comparison.estimate.value > 0) == positive:
        return "reproduced" if paper else "yes"
    return "not reproduced" if paper else "no"


def _raw_p(a: ArrayLike, b: ArrayLike, estimate: Estimate, matched: bool) -> float | None:
    """The larger of two: over seeds and items, and over items with these very runs.

    Three seeds may agree by luck, on both sides, and then narrow the first to nothing; the second knows how much these
    runs differ from item to item. A difference has to hold against both.
    """
    if estimate.seeds == 1:
        return None
    of_these_runs = paired_bootstrap_p_value(a, b)
    return max(of_these_runs, difference_p_value(a, b, matched=matched)) if estimate.seeds else of_these_runs


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"
