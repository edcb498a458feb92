"""How much of the gap is word order? Pre-training on the same words in another order, beside natural order and scratch."""

from __future__ import annotations

from dataclasses import dataclass

from tlm.report.comparison import Comparison, compare_measured, judge, point, shown, verdict
from tlm.report.drawing import Plot, bars
from tlm.report.evidence import Correct, Evidence
from tlm.report.findings import NOT_MEASURED, ONE_SAMPLE, UNDECIDED, Findings, Verdict
from tlm.report.formatting import NOT_AVAILABLE, Cell, Table, corpus_label, word
from tlm.statistics import Estimate
from tlm.statistics.contrast import share_of_gap
from tlm.study.treatments import Shuffled

WHERE = {"sentence": "within sentences", "corpus": "over the whole corpus"}


@dataclass(frozen=True)
class Case:
    """One shuffled set, one task and one architecture, and what was found."""

    task: str
    system: str
    shuffled: Shuffled
    natural: Comparison | None
    """The gap of the same set in natural order."""
    shuffled_gap: Comparison | None
    """The gap of the shuffled set."""
    cost: Comparison | None
    """Shuffled minus natural."""
    share: Estimate | None
    """Of the natural gap that remains; None where that is not resolved."""


def analyse(evidence: Evidence) -> Findings:
    """Does the gap survive shuffling, and is it smaller than in natural order?"""
    cases = [case for task in evidence.study.tasks for case in _cases(evidence, task.name)]
    if not cases:
        claim = "The gap survives shuffled words"
        return Findings([Verdict(claim, NOT_MEASURED, "the study has no shuffled pre-training set")])
    notes = [
        "Shuffling within sentences keeps which words occur together; over the whole corpus it keeps how often each "
        "occurs, and nothing else.",
        ONE_SAMPLE,
    ]
    verdicts = [found for case in cases for found in _verdicts(evidence, case)]
    plots = [_plot(evidence, task.name) for task in evidence.study.tasks]
    return Findings(verdicts, [_table(evidence, cases)], plots, notes)


def _cases(evidence: Evidence, task: str) -> list[Case]:
    """Every question about one task is one family."""
    sets = {(t.ws, t.label): t for t in evidence.study.treatments if isinstance(t, Shuffled)}
    asked = [(system, shuffled) for system in evidence.treated for shuffled in sets.values()]
    family: dict[tuple[str, str, int, str | None], tuple[Correct | None, Correct | None]] = {}
    shares = {}
    for system, shuffled in asked:
        ws, label = shuffled.ws, shuffled.label
        scratch, natural = evidence.correct(task, system, 0), evidence.correct(task, system, ws)
        changed = evidence.correct(task, system, ws, label)
        family["natural", system, ws, None] = (natural, scratch)
        family["shuffled", system, ws, label] = (changed, scratch)
        family["cost", system, ws, label] = (changed, natural)
        if changed is not None and natural is not None and scratch is not None:
            shares[system, ws, label] = share_of_gap(changed, natural, scratch)
    found = compare_measured(family)
    cases = []
    for system, shuffled in asked:
        ws, label = shuffled.ws, shuffled.label
        plain = found.get(("natural", system, ws, None))
        share = shares.get((system, ws, label)) if plain and plain.resolved else None
        shuffled_gap, cost = (found.get((what, system, ws, label)) for what in ("shuffled", "cost"))
        cases.append(Case(task, system, shuffled, plain, shuffled_gap, cost, share))
    return cases


def _verdicts(evidence: Evidence, case: Case) -> list[Verdict]:
    ws, label = case.shuffled.ws, case.shuffled.label
    words = f"words are shuffled {WHERE[case.shuffled.scope]} ({case.system} on {case.task}, Ws = {ws:,})"
    links = (*evidence.links(case.task, case.system, (0, ws)), *evidence.links(case.task, case.system, [ws], label))
    survives = f"The gap survives when {words}"
    smaller = verdict(
        f"The gap is smaller than in natural order when {words}", case.cost, paper=False, positive=False, links=links
    )
    if case.natural and case.shuffled_gap and judge(case.natural, paper=False) != "yes":
        figure = f"no gap in natural order is established that could: {case.natural.text}"
        return [Verdict(survives, UNDECIDED, figure, links=links, estimate=case.natural.estimate), smaller]
    more = f"{case.share.text(digits=0)} % of the gap remains" if case.share else ""
    gap = case.shuffled_gap if case.natural else None
    return [verdict(survives, gap, paper=False, links=links, more=more), smaller]


def _table(evidence: Evidence, cases: list[Case]) -> Table:
    rows = []
    for case in cases:
        ws, label = case.shuffled.ws, case.shuffled.label
        links = evidence.links(case.task, case.system, [ws], label)
        share = NOT_AVAILABLE if case.share is None else case.share.text(digits=0)
        rows.append(
            (
                word(case.task),
                word(case.system),
                word(corpus_label(ws, label)),
                shown(evidence.accuracy(case.task, case.system, ws, label), links),
                shown(case.shuffled_gap, links),
                shown(case.natural, evidence.links(case.task, case.system, [ws])),
                shown(case.cost, links),
                Cell(share, links if case.share else ()),
            )
        )
    columns = ("Task", "Architecture", "Ws", "Accuracy, %", "Gap, points", "Gap in natural order, points")
    return Table(
        "The gap of pre-training on shuffled words",
        (*columns, "Shuffled minus natural, points", "Share of the gap that remains, %"),
        tuple(rows),
        "Gap: accuracy minus that of the same architecture from scratch. p-values of a task are one family (Holm). Share: "
        "(shuffled − scratch) / (natural − scratch), Fieller's interval over seeds and items; n/a where the natural gap is "
        "not resolved.",
    )


def _plot(evidence: Evidence, task: str) -> Plot:
    study = evidence.study
    shuffled = [t for t in study.treatments if isinstance(t, Shuffled)]
    sets: dict[tuple[int, str | None], None] = {(0, None): None}
    for ws in sorted({t.ws for t in shuffled}):
        sets |= dict.fromkeys([(ws, None), *((ws, t.label) for t in shuffled if t.ws == ws)])
    series = []
    for system in evidence.treated:
        found = [evidence.accuracy(task, system, *each) for each in sets]
        series.append((system, [point(0, accuracy) if accuracy else None for accuracy in found]))
    names = [corpus_label(*each).replace(" · ", "\n") for each in sets]
    return bars(f"{study.name}-{task}", f"{task}: accuracy by word order", "Test accuracy, %", names, series)
