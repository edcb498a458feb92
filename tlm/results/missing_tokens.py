"""What do missing tokens cost at fixed Ws? (paper: Table 4)

Tokens of the task are removed from a pre-training set; everything else about it, and Ws, stays. A *series* is one way to do
so: the task, Ws, which tokens are chosen (selection) and what is done to them (removal), at one or several counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tlm.report.comparison import Comparison, adjusted, compare_measured, point, shown, verdict
from tlm.report.drawing import Plot, lines
from tlm.report.evidence import Correct, Evidence
from tlm.report.findings import NOT_KNOWN, NOT_MEASURED, ONE_SAMPLE, UNDECIDED, Findings, Outcome, Unit, Verdict
from tlm.report.formatting import NOT_AVAILABLE, Cell, Link, Table, number, word
from tlm.statistics.contrast import contrast, contrast_p_value
from tlm.statistics.reaching import Reached, cost_to_reach
from tlm.study.treatments import MissingTokens

TABLE_4 = "lower, as after a much smaller Ws (Table 4)"
MUCH_SMALLER = 0.5
"""Of Ws: the paper's word, made a number."""
PER = 1_000
"""Trends are points for so many more missing tokens."""
TREND_COUNTS = 3
"""Counts, none included, that a trend needs: of two it is their difference."""


class Series(NamedTuple):
    """A way to make tokens missing, and the architecture that it was tried with."""

    task: str
    arch: str
    ws: int
    selection: str
    removal: str

    def __str__(self) -> str:
        return f"{self.selection} tokens, {self.removal}, Ws = {self.ws:,}, {self.arch} on {self.task}"


class Dose(NamedTuple):
    """One of a series' treatments: its label, and how many distinct tokens it removed."""

    label: str
    tokens: float


class Question(NamedTuple):
    series: Series
    dose: Dose


def analyse(evidence: Evidence) -> Findings:
    """Accuracy with missing tokens against the untreated set of the same Ws, its trend, and the Ws that it is worth."""
    found = _series(evidence)
    with_missing = {
        Question(series, dose): _treated(evidence, series, dose) for series in found for dose in found[series]
    }
    # The largest count of each series is the question; the smaller ones are another family.
    largest = {series: doses[-1] for series, doses in found.items() if doses}
    families = [[q for q in with_missing if (q.dose == largest[q.series]) == asked] for asked in (True, False)]
    costs = {
        question: cost
        for family in families
        for question, cost in compare_measured(
            {q: (with_missing[q], _untreated(evidence, q.series)) for q in family}
        ).items()
    }
    trends = _trends(evidence, found, with_missing)
    return Findings(
        verdicts=[
            *(_costs(evidence, series, doses, costs) for series, doses in found.items()),
            *(_falls(series, trends[series], _links(evidence, series, doses)) for series, doses in found.items()
              if series in trends),
            *(_worth(evidence, series, doses) for series, doses in found.items()),
        ],
        tables=[_table(evidence, found, costs)],
        plots=[
            _plot(evidence, found, *place)
            for place in dict.fromkeys((series.task, series.arch, series.ws) for series in found)
        ],
        notes=[
            ONE_SAMPLE,
            "Tokens are distinct ones of the task that the untreated set holds. Seeds do not vary which are missing.",
            "Equivalent Ws: the Ws at which the untreated sets reach the same accuracy, by interpolation in log Ws; its "
            "interval is a parametric bootstrap over seeds and items (`tlm.statistics.reaching`). Much smaller means less "
            f"than {MUCH_SMALLER:g} of Ws, with the whole interval; the paper names no number.",
        ],
    )  # fmt: skip


def _series(evidence: Evidence) -> dict[Series, list[Dose]]:
    """Every series of the study with its doses, the smallest first."""
    treatments = [each for each in evidence.study.treatments if isinstance(each, MissingTokens)]
    found: dict[Series, set[Dose]] = {}
    for each in treatments:
        for arch in evidence.treated:
            series = Series(each.task, arch, each.ws, each.selection, each.removal)
            removed = evidence.recorded("injected_tokens", each.task, arch, each.ws, each.label)
            found.setdefault(series, set())
            if removed is not None:
                found[series].add(Dose(each.label, removed))
    return {series: sorted(doses, key=lambda dose: dose.tokens) for series, doses in found.items()}


def _treated(evidence: Evidence, series: Series, dose: Dose) -> Correct | None:
    return evidence.correct(series.task, series.arch, series.ws, dose.label)


def _untreated(evidence: Evidence, series: Series) -> Correct | None:
    return evidence.correct(series.task, series.arch, series.ws)


def _trends(
    evidence: Evidence, found: dict[Series, list[Dose]], with_missing: dict[Question, Correct | None]
) -> dict[Series, Comparison]:
    """The slope of a line through the accuracies at each count, none included; least squares, all counts alike."""
    systems, weights = {}, {}
    for series, doses in found.items():
        untreated = _untreated(evidence, series)
        every = [untreated, *(with_missing[Question(series, dose)] for dose in doses)]
        there = [each for each in every if each is not None]
        if untreated is not None and len(there) == len(every) and len(every) >= TREND_COUNTS:
            counts = np.array([0.0, *(dose.tokens for dose in doses)]) / PER
            counts -= counts.mean()
            if counts.any():
                systems[series], weights[series] = there, counts / np.square(counts).sum()
    estimates = {series: contrast(systems[series], weights[series]) for series in systems}
    raw = [
        None if estimates[series].seeds == 1 else contrast_p_value(systems[series], weights[series])
        for series in systems
    ]
    return {
        series: Comparison(str(series), estimates[series], p)
        for series, p in zip(systems, adjusted(raw), strict=True)
    }  # fmt: skip


# --- verdicts ---


def _costs(evidence: Evidence, series: Series, doses: list[Dose], costs: dict[Question, Comparison]) -> Verdict:
    if not doses:
        return verdict(f"Missing tokens cost accuracy ({series})", None, paper=True, known=TABLE_4)
    dose = doses[-1]
    worth = _worth_text(_equivalent(evidence, series, dose))
    return verdict(
        f"{dose.tokens:,.0f} missing tokens cost accuracy ({series})",
        costs.get(Question(series, dose)),
        paper=True,
        positive=False,
        known=TABLE_4,
        links=_links(evidence, series, [dose]),
        more=f"equivalent Ws {worth} instead of {series.ws:,}",
    )


def _falls(series: Series, trend: Comparison, links: tuple[Link, ...]) -> Verdict:
    claim = f"The more tokens are missing, the lower the accuracy ({series})"
    more = f"points for each {PER:,} more missing tokens"
    unit: Unit = "points for each 1,000 missing tokens"
    return verdict(claim, trend, paper=True, positive=False, known=TABLE_4, links=links, more=more, unit=unit)


def _worth(evidence: Evidence, series: Series, doses: list[Dose]) -> Verdict:
    """Of the largest count: whether the whole interval of its equivalent Ws is below a share of Ws, or above it."""
    if not doses:
        claim = f"Missing tokens leave a set worth a much smaller one ({series})"
        return Verdict(claim, NOT_MEASURED, NOT_KNOWN, TABLE_4)
    claim = f"{doses[-1].tokens:,.0f} missing tokens leave a set worth one much smaller ({series})"
    found = _equivalent(evidence, series, doses[-1])
    if found is None:
        return Verdict(claim, NOT_MEASURED, NOT_KNOWN, TABLE_4)
    outcome: Outcome = UNDECIDED
    ends, limit = found.estimate, MUCH_SMALLER * series.ws
    if ends.seeds > 1 and (ends.high < limit or ends.low >= limit):
        outcome = "reproduced" if ends.high < limit else "not reproduced"
    figure = f"equivalent Ws {found.text(0)} instead of {series.ws:,}"
    links = _links(evidence, series, doses[-1:])
    return Verdict(claim, outcome, figure, TABLE_4, links, ends, "paragraphs")


def _links(evidence: Evidence, series: Series, doses: Sequence[Dose]) -> tuple[Link, ...]:
    task, arch, ws = series.task, series.arch, series.ws
    of_doses = [link for dose in doses for link in evidence.links(task, arch, [ws], dose.label)]
    return (*evidence.links(task, arch, [ws]), *of_doses)


# --- table and plots ---


def _equivalent(evidence: Evidence, series: Series, dose: Dose) -> Reached | None:
    """None where the treated set, or every untreated one, was not measured."""
    target = _treated(evidence, series, dose)
    natural = {ws: evidence.correct(series.task, series.arch, ws) for ws in evidence.study.corpus.sizes if ws}
    curve = [(float(ws), correct) for ws, correct in natural.items() if correct is not None]
    return None if target is None or not curve else cost_to_reach(curve, target)


def _worth_text(found: Reached | None) -> str:
    return NOT_AVAILABLE if found is None else found.text(0)


def _table(evidence: Evidence, found: dict[Series, list[Dose]], costs: dict[Question, Comparison]) -> Table:
    rows = []
    for series, doses in found.items():
        about = (word(series.task), word(series.arch), number(series.ws), word(series.selection), word(series.removal))
        untreated = evidence.accuracy(series.task, series.arch, series.ws)
        links = evidence.links(series.task, series.arch, [series.ws])
        rows.append((*about, Cell("0"), shown(untreated, links), Cell(NOT_AVAILABLE), number(series.ws)))
        for dose in doses:
            accuracy = evidence.accuracy(series.task, series.arch, series.ws, dose.label)
            links = evidence.links(series.task, series.arch, [series.ws], dose.label)
            cost = shown(costs.get(Question(series, dose)))
            worth = Cell(_worth_text(_equivalent(evidence, series, dose)))
            rows.append((*about, number(dose.tokens), shown(accuracy, links), cost, worth))
    return Table(
        "Accuracy by number of missing tokens",
        (
            *("Task", "Architecture", "Ws", "Selection", "Removal", "Missing tokens"),
            *("Accuracy, %", "Difference from none missing, points", "Equivalent Ws"),
        ),
        tuple(rows),
        "p-values are corrected (Holm) in two families, each series' largest count and all smaller ones.",
    )


def _plot(evidence: Evidence, found: dict[Series, list[Dose]], task: str, arch: str, ws: int) -> Plot:
    drawn = []
    untreated = evidence.accuracy(task, arch, ws)
    for series, doses in found.items():
        if (series.task, series.arch, series.ws) == (task, arch, ws):
            measured = [(dose.tokens, evidence.accuracy(task, arch, ws, dose.label)) for dose in doses]
            points = [point(tokens, accuracy) for tokens, accuracy in measured if accuracy is not None]
            drawn.append((f"{series.selection}, {series.removal}", points))
    levels = [("none missing", 100 * untreated.value)] if untreated else []
    scratch = evidence.accuracy(task, arch, 0)
    levels += [("scratch", 100 * scratch.value)] if scratch else []
    name, title = (
        f"{evidence.study.name}-{task}-{arch}-ws{ws}",
        f"{task}, {arch}, Ws = {ws:,}: what missing tokens cost",
    )
    return lines(name, title, "Missing tokens", "Test accuracy, %", drawn, levels=levels)
