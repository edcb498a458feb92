"""What is general text worth to tasks of another domain? The study's own source, text of other sources, and both together.

A foreign text is of a task's own domain if the task's name is a word of the treatment's (`wikipedia-and-pubmed` for the
task `pubmed`). It may hold a task's test items word for word: these are left out of every comparison with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tlm.report.comparison import Comparison, compare_measured, point, shown, verdict
from tlm.report.drawing import Plot, bars
from tlm.report.evidence import Correct, Evidence
from tlm.report.findings import NOT_MEASURED, ONE_SAMPLE, Findings, Verdict
from tlm.report.formatting import NOT_AVAILABLE, Cell, Table, corpus_label, percent, word
from tlm.report.study_systems import corpora
from tlm.statistics.runs import LEAST_ITEMS
from tlm.study.treatments import Foreign

Place = tuple[str, int, str | None]
"""Architecture, Ws, treatment."""


@dataclass(frozen=True)
class Shift:
    """Everything that was compared on one task: one family of questions."""

    task: str
    gaps: dict[Place, Comparison]
    """The study's own source minus scratch."""
    foreign: dict[Place, Comparison]
    """Text of another source minus the study's own at the same Ws."""


def analyse(evidence: Evidence) -> Findings:
    """Gap of the study's own source, and what other text does instead of it or beside it, at the same Ws."""
    shifts = [_compared(evidence, task.name) for task in evidence.study.tasks]
    general = general_name(evidence)
    verdicts = [found for shift in shifts for found in (*_gap_verdicts(evidence, shift), *_foreign(evidence, shift))]
    if not foreign_sets(evidence):
        claim = f"Text of the task's domain is worth more than as much of {general}"
        verdicts.append(Verdict(claim, NOT_MEASURED, "the study has no text of another source"))
    notes = [
        f"Comparisons with foreign text leave out test items that share a run of 13 tokens with it, or with {general}; "
        "the table says how many that are.",
        "Sets of one Ws hold equally many paragraphs, not equally many tokens: sources differ in the length of both.",
        ONE_SAMPLE,
    ]
    tables = [_table(evidence, shift) for shift in shifts]
    return Findings(verdicts, tables, [_plot(evidence, shift.task) for shift in shifts], notes)


def general_name(evidence: Evidence) -> str:
    """What the study's own source is called."""
    return evidence.study.corpus.source.kind.replace("_", " ").capitalize()


def foreign_sets(evidence: Evidence) -> list[Foreign]:
    """The treatments that are text of another source."""
    return [treatment for treatment in evidence.study.treatments if isinstance(treatment, Foreign)]


def own_domain(task: str, treatment: Foreign) -> bool:
    """Whether the text is of the task's domain (see the module)."""
    return task in treatment.name.split("-")


def clean_items(evidence: Evidence, task: str, treatment: Foreign) -> Correct | None:
    """Which test items stand neither in that set nor in the study's own largest, (N,); None if nothing was checked."""
    largest = max(evidence.study.corpus.sizes)
    checked = [evidence.clean(task, treatment.ws, treatment.label), evidence.clean(task, largest)]
    there = [mask for mask in checked if mask is not None]
    return np.logical_and.reduce(there) if there else None


def _compared(evidence: Evidence, task: str) -> Shift:
    family: dict[Place, tuple[Correct | None, Correct | None]] = {}
    for arch in evidence.study.architectures:
        for ws in evidence.study.corpus.sizes:
            if ws:
                both = (evidence.correct(task, arch.name, ws), evidence.correct(task, arch.name, 0))
                family[arch.name, ws, None] = both
    for system in evidence.treated:
        for treatment in foreign_sets(evidence):
            ws, label = treatment.ws, treatment.label
            other, general = evidence.correct(task, system, ws, label), evidence.correct(task, system, ws)
            clean = clean_items(evidence, task, treatment)
            family[system, ws, label] = (_only(other, clean), _only(general, clean))
    found = compare_measured(family)
    gaps = {place: comparison for place, comparison in found.items() if place[2] is None}
    return Shift(task, gaps, {place: comparison for place, comparison in found.items() if place[2] is not None})


def _only(correct: Correct | None, clean: Correct | None) -> Correct | None:
    if correct is None or clean is None:
        return correct
    return correct[..., clean] if clean.sum() >= LEAST_ITEMS else None


# --- verdicts ---


def _gap_verdicts(evidence: Evidence, shift: Shift) -> list[Verdict]:
    largest = max(evidence.study.corpus.sizes)
    found = []
    for arch in evidence.study.architectures:
        claim = f"Pre-training on {largest:,} paragraphs of {general_name(evidence)} helps {arch.name} on {shift.task}"
        gap = shift.gaps.get((arch.name, largest, None))
        found.append(verdict(claim, gap, paper=False, links=evidence.links(shift.task, arch.name, (0, largest))))
    return found


def _foreign(evidence: Evidence, shift: Shift) -> list[Verdict]:
    found = []
    for treatment in foreign_sets(evidence):
        ws, label, own = treatment.ws, treatment.label, own_domain(shift.task, treatment)
        for system in evidence.treated:
            claim = f"{_claim(shift.task, treatment, general_name(evidence))} ({system})"
            comparison = shift.foreign.get((system, ws, label))
            if comparison is None:
                missing = f"needs both that set and one of {general_name(evidence)} alone, Ws = {ws:,}"
                found.append(Verdict(claim, NOT_MEASURED, missing))
                continue
            links = evidence.links(shift.task, system, [ws], label) + evidence.links(shift.task, system, [ws])
            more = _left_out(clean_items(evidence, shift.task, treatment))
            found.append(verdict(claim, comparison, paper=False, positive=own, links=links, more=more))
    return found


def _claim(task: str, treatment: Foreign, general: str) -> str:
    which = f"text of {task}'s own domain" if own_domain(task, treatment) else "text of another domain"
    own = own_domain(task, treatment)
    if treatment.general:
        return (
            f"On {task}, {treatment.own:,} of {treatment.ws:,} paragraphs of {general} are better replaced by {which}"
            if own
            else f"On {task}, it costs to replace {treatment.own:,} of {treatment.ws:,} paragraphs of {general} by {which}"
        ) + f", {treatment.label}"
    worth = "more" if own else "less"
    return f"On {task}, {treatment.own:,} paragraphs of {which}, {treatment.label}, are worth {worth} than of {general}"


def _left_out(clean: Correct | None) -> str:
    if clean is None:
        return "near-duplicates were not looked for"
    return f"{len(clean) - int(clean.sum())} of {len(clean)} test items left out" if not clean.all() else ""


# --- table and plot ---


def _table(evidence: Evidence, shift: Shift) -> Table:
    task = shift.task
    sets = {treatment.label: treatment for treatment in foreign_sets(evidence)}
    body = []
    for arch in evidence.study.architectures:
        for ws, label in corpora(evidence.study, task):
            if label is not None and (label not in sets or arch.name not in evidence.treated):
                continue
            links = evidence.links(task, arch.name, [ws], label)
            domain = "none" if not ws else general_name(evidence)
            duplicates = evidence.clean(task, ws, label)
            if label is not None:
                domain = "own" if own_domain(task, sets[label]) else "another"
                domain += f", and {general_name(evidence)}" if sets[label].general else ""
            body.append(
                (
                    word(arch.name),
                    word(corpus_label(ws, label)),
                    word(domain),
                    percent(evidence.recorded("type_overlap", task, arch.name, ws, label)),
                    percent(evidence.recorded("occurrence_overlap", task, arch.name, ws, label)),
                    percent(None if duplicates is None else 1 - float(duplicates.mean())),
                    shown(evidence.accuracy(task, arch.name, ws, label), links),
                    shown(shift.gaps.get((arch.name, ws, None))) if ws and not label else Cell(NOT_AVAILABLE),
                    shown(shift.foreign.get((arch.name, ws, label))) if label else Cell(NOT_AVAILABLE),
                )
            )
    columns = ("Architecture", "Ws", "Domain", "Type overlap, %", "Occurrence overlap, %", "Near-duplicates, %")
    general = general_name(evidence)
    return Table(
        f"Before {task}: pre-training on {general} and on other text",
        (*columns, "Accuracy, %", "Gap, points", f"Minus {general} of the same Ws, points"),
        tuple(body),
        "Gap: over scratch. All p-values of this table are one family (Holm). The last column is without near-duplicates, "
        "accuracies are of all items.",
    )


def _plot(evidence: Evidence, task: str) -> Plot:
    study = evidence.study
    sets = [
        (ws, label)
        for ws, label in corpora(study, task)
        if label is None or label in {treatment.label for treatment in foreign_sets(evidence)}
    ]
    series = []
    for arch in study.architectures:
        found = [evidence.accuracy(task, arch.name, *each) for each in sets]
        series.append((arch.name, [point(0, accuracy) if accuracy else None for accuracy in found]))
    names = [corpus_label(*each).replace(" · ", "\n").replace("-and-", "\nand ") for each in sets]
    return bars(
        f"{study.name}-{task}", f"{task}: accuracy by what was pre-trained on", "Test accuracy, %", names, series
    )
