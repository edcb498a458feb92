"""How do the gap, and a committee's advantage over its members, depend on the number of labels?

With L labels, equally frequent in the test items, chance is right in 1/L of them. An accuracy a is rescaled for chance as
(a − 1/L) / (1 − 1/L), 0 at chance and 1 at best, and so is a difference of two: d / (1 − 1/L). The trend is a line over
log2 L (`tlm.statistics.trend`): points for each doubling of the number of labels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tlm.report.comparison import ALPHA, point, shown
from tlm.report.drawing import Plot, lines
from tlm.report.evidence import Evidence
from tlm.report.findings import NOT_MEASURED, ONE_SAMPLE, UNDECIDED, Findings, Outcome, Verdict
from tlm.report.formatting import Cell, Table, number, word
from tlm.report.marts import rows
from tlm.report.study_systems import deepest
from tlm.statistics import Estimate
from tlm.statistics.trend import Term, trend, weighted_sum
from tlm.study.config import CommitteeConfig

LEAST_TASKS = 3
"""With different numbers of labels: a line through two says nothing about its fit."""


@dataclass(frozen=True)
class Quantity:
    """A gap or an advantage on every task where it was measured, as terms that are summed."""

    name: str
    systems: tuple[str, ...]
    terms: dict[str, list[Term]]
    """By task."""
    peers: int
    """How many trends are judged together (Bonferroni)."""


def analyse(evidence: Evidence) -> Findings:
    """Trends of the gap (of the deepest and of the shallow architectures) and of each committee's advantage."""
    labels = number_of_labels(evidence)
    quantities = [*_gaps(evidence), *_committee_advantages(evidence)]
    verdicts = [_verdict(evidence, quantity, labels) for quantity in quantities]
    if not _committees(evidence):
        claim = "A committee's advantage over its mean member grows with the number of labels"
        verdicts.append(Verdict(claim, NOT_MEASURED, "the study has no committee of several architectures"))
    notes = [
        "Rescaled for chance: (a − 1/L) / (1 − 1/L) of an accuracy a with L labels; a difference d is d / (1 − 1/L).",
        "Tasks with fewer labels have fewer training and test items: their number for each label is the same.",
        "Intervals treat the test items of different tasks as independent, and what was trained from one seed as one.",
        ONE_SAMPLE,
    ]
    plots = [_plot(evidence, quantities, labels, rescaled) for rescaled in (False, True)]
    return Findings(verdicts, [_trend_table(quantities, labels), _table(quantities, labels)], plots, notes)


def number_of_labels(evidence: Evidence) -> dict[str, int]:
    """The number of labels of each task: as many as the study keeps, or as there are among its test items."""
    found = rows(
        evidence.connection,
        "select task, count(distinct label) as labels from predictions where part = 'test' group by task",
    )
    seen = {row["task"]: row["labels"] for row in found}
    counted = {task.name: task.labels or seen.get(task.name, 0) for task in evidence.study.tasks}
    return {task: labels for task, labels in counted.items() if labels > 1}


# --- what is measured ---


def _gaps(evidence: Evidence) -> list[Quantity]:
    study = evidence.study
    deep = deepest(study)
    fewest = min(arch.num_hidden_layers for arch in study.architectures)
    shallow = tuple(a.name for a in study.architectures if a.num_hidden_layers == fewest and a.name != deep)
    wanted: list[tuple[str, tuple[str, ...]]] = [(f"gap of {deep}", (deep,))]
    if shallow:
        wanted.append((f"gap of {' and '.join(shallow)}{', mean' if len(shallow) > 1 else ''}", shallow))
    return [Quantity(name, systems, _gap_terms(evidence, systems), len(wanted)) for name, systems in wanted]


def _gap_terms(evidence: Evidence, systems: tuple[str, ...]) -> dict[str, list[Term]]:
    """The mean of the architectures' gaps; a task where one is missing is left out."""
    ws, found = max(evidence.study.corpus.sizes), {}
    for task in evidence.study.tasks:
        terms = []
        for system in systems:
            pretrained, scratch = (evidence.correct(task.name, system, each) for each in (ws, 0))
            if pretrained is not None and scratch is not None and ws:
                terms.append(Term(1 / len(systems), pretrained, system))
                terms.append(Term(-1 / len(systems), scratch, f"{system} from scratch"))
        if len(terms) == 2 * len(systems):
            found[task.name] = terms
    return found


def _committees(evidence: Evidence) -> list[CommitteeConfig]:
    return [committee for committee in evidence.study.committees if len(committee.members) > 1]


def _committee_advantages(evidence: Evidence) -> list[Quantity]:
    """Committees of one member of each architecture, minus the mean of these members."""
    committees = _committees(evidence)
    found = []
    for committee in committees:
        terms = {task.name: _committee_terms(evidence, committee, task.name) for task in evidence.study.tasks}
        measured = {task: its for task, its in terms.items() if its}
        name = f"advantage of committee {committee.name} over its mean member"
        found.append(Quantity(name, (committee.name,), measured, len(committees)))
    return found


def _committee_terms(evidence: Evidence, committee: CommitteeConfig, task: str) -> list[Term]:
    """A committee and its members are of the same seeds, and so one system. Empty if one is missing."""
    ws, size = max(evidence.study.corpus.sizes), len(committee.members)
    whole = evidence.committee(task, committee.name, ws, size)
    members = [evidence.correct(task, member, ws) for member in committee.members]
    there = [member for member in members if member is not None]
    if whole is None or len(there) < size:
        return []
    # Of one pre-training the fine-tunings are the repetitions, as they are of its members.
    whole = whole[0] if len(whole) == 1 else whole
    if any(len(member) != len(whole) for member in there):
        return []
    return [Term(1, whole, "seeds"), *(Term(-1 / size, member, "seeds") for member in there)]


# --- what comes of it ---


def _trend(quantity: Quantity, labels: dict[str, int], *, rescaled: bool, confidence: float = 0.95) -> Estimate | None:
    """Shares for each doubling of the number of labels."""
    tasks = [task for task in quantity.terms if task in labels]
    if len({labels[task] for task in tasks}) < LEAST_TASKS:
        return None
    terms = [_rescaled(quantity.terms[task], labels[task]) if rescaled else quantity.terms[task] for task in tasks]
    return trend(np.log2([labels[task] for task in tasks]), terms, confidence=confidence)


def _rescaled(terms: list[Term], labels: int) -> list[Term]:
    return [replace(term, weight=term.weight / (1 - 1 / labels)) for term in terms]


def _verdict(evidence: Evidence, quantity: Quantity, labels: dict[str, int]) -> Verdict:
    claim = f"The {quantity.name} grows with the number of labels"
    slope, fair = (_trend(quantity, labels, rescaled=rescaled) for rescaled in (False, True))
    if slope is None or fair is None:
        return Verdict(claim, NOT_MEASURED, f"needs tasks with at least {LEAST_TASKS} different numbers of labels")
    outcome: Outcome = UNDECIDED
    judged = _trend(quantity, labels, rescaled=False, confidence=1 - ALPHA / quantity.peers)
    if judged is not None and judged.resolved:
        outcome = "yes" if judged.value > 0 else "no"
    figure = (
        f"{slope.text(digits=2, signed=True)} points a doubling; rescaled for chance {fair.text(digits=2, signed=True)}"
    )
    sizes = (0, max(evidence.study.corpus.sizes))
    links = tuple(
        link for task in quantity.terms for system in quantity.systems for link in evidence.links(task, system, sizes)
    )
    return Verdict(claim, outcome, figure, links=links, estimate=slope, unit="points a doubling of labels")


def _trend_table(quantities: list[Quantity], labels: dict[str, int]) -> Table:
    body = []
    for quantity in quantities:
        slopes = [_trend(quantity, labels, rescaled=rescaled) for rescaled in (False, True)]
        cells = [Cell(NOT_MEASURED if it is None else it.text(digits=2, signed=True)) for it in slopes]
        tasks = len([task for task in quantity.terms if task in labels])
        body.append((word(quantity.name), number(tasks), *cells))
    return Table(
        "Trend over the number of labels",
        ("What", "Tasks", "Points a doubling", "Rescaled for chance, points a doubling"),
        tuple(body),
        "Least squares over log2 of the number of labels. Verdicts are judged by wider intervals than these, which hold "
        "for all gaps together at 95 %, and likewise for all committees (Bonferroni).",
    )


def _table(quantities: list[Quantity], labels: dict[str, int]) -> Table:
    body = []
    for quantity in quantities:
        for task in sorted((task for task in quantity.terms if task in labels), key=lambda task: labels[task]):
            terms = quantity.terms[task]
            cells = [shown(weighted_sum(each)) for each in (terms, _rescaled(terms, labels[task]))]
            body.append((word(quantity.name), word(task), number(labels[task]), *cells))
    columns = ("What", "Task", "Labels", "Points", "Rescaled for chance, points")
    note = "The question is the trend; single tasks are not judged."
    return Table("Gaps and advantages by number of labels", columns, tuple(body), note)


def _plot(evidence: Evidence, quantities: list[Quantity], labels: dict[str, int], rescaled: bool) -> Plot:
    series = []
    for quantity in quantities:
        points = []
        for task in quantity.terms:
            if task in labels:
                terms = quantity.terms[task]
                found = weighted_sum(_rescaled(terms, labels[task]) if rescaled else terms)
                points.append(point(labels[task], found))
        series.append((quantity.name, points))
    kind = ", rescaled for chance" if rescaled else ""
    name = f"{evidence.study.name}-{'rescaled' if rescaled else 'by-labels'}"
    title = f"Gaps and advantages against the number of labels{kind}"
    return lines(name, title, "Labels", f"Points{kind}", series, levels=[("0", 0.0)], log=True)
