"""What do tokens do that are in the pre-training set and not in the task? Its own tokens equally covered, others varied.

The sets are those of samplers with a level (`tlm.data.samplers.irrelevant`). That their coverage is equal, and that the
share of irrelevant occurrences does rise with the level, is looked up and not assumed: without both there is no answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from tlm.report.comparison import Comparison, compare_measured, point, shown, verdict
from tlm.report.drawing import Plot, lines
from tlm.report.evidence import Correct, Evidence
from tlm.report.findings import NOT_MEASURED, ONE_SAMPLE, Findings, Verdict
from tlm.report.formatting import NOT_AVAILABLE, Cell, Table, corpus_label, number, percent, word
from tlm.report.marts import rows
from tlm.study.treatments import Sampled

EQUAL = 0.0005
"""Coverages that differ by less are equal in every digit that is shown."""

Corpus = tuple[int, str | None]
"""Ws and treatment."""


@dataclass(frozen=True)
class Content:
    """What a pre-training set holds, as seen from a task."""

    coverage: float | None
    """Share of the types of the task's training items (what the samplers look at) that it holds."""
    occurrences: int
    irrelevant: float
    """Share of its occurrences whose type no item of the task uses."""


@dataclass(frozen=True)
class Ladder:
    """The sets of one sampler at one Ws before a task, the lowest level first, and the random set of that Ws."""

    task: str
    ws: int
    levels: tuple[Sampled, ...]
    contents: dict[str | None, Content]
    """By treatment; None is the random set."""

    @property
    def ends(self) -> tuple[Sampled, Sampled]:
        return self.levels[0], self.levels[-1]

    @property
    def flaw(self) -> str | None:
        """Why these sets cannot answer the question, if they cannot."""
        found = [self.contents.get(level.label) for level in self.levels]
        known = [content for content in found if content is not None and content.coverage is not None]
        if len(self.levels) < 2 or len(known) < len(found):
            return "needs the overlap of at least two levels"
        coverages = [content.coverage for content in known if content.coverage is not None]
        if max(coverages) - min(coverages) > EQUAL:
            return f"coverage differs between levels: {100 * min(coverages):.1f} to {100 * max(coverages):.1f} %"
        if known[-1].irrelevant <= known[0].irrelevant:
            return f"the share of irrelevant occurrences does not rise with the level: {_range(known)}"
        return None

    @property
    def text(self) -> str:
        """What was held and what was varied."""
        low, high = (self.contents[level.label] for level in self.ends)
        covered = "" if low.coverage is None else f", {100 * low.coverage:.1f} % of types covered by each"
        return f"irrelevant occurrences {_range([low, high])}{covered}"


def analyse(evidence: Evidence) -> Findings:
    """Accuracy at each level, the highest minus the lowest, and each minus a random set of the same Ws."""
    ladders = _ladders(evidence)
    if not ladders:
        claim = "Tokens that the task never uses lower accuracy, the task's tokens equally covered"
        return Findings([Verdict(claim, NOT_MEASURED, "the study has no pre-training sets by level")])
    found = _compared(evidence, ladders)
    verdicts = [_verdict(evidence, ladder, system, found) for ladder in ladders for system in evidence.treated]
    notes = [
        "Sets of one Ws hold equally many paragraphs, not equally many tokens: the table has both.",
        "A token is irrelevant if no item of the task uses it. Coverage is of the training items' types, which the "
        "sampler looks at.",
        ONE_SAMPLE,
    ]
    plots = [_plot(evidence, ladder) for ladder in ladders]
    return Findings(verdicts, [_table(evidence, ladders, found)], plots, notes)


def _ladders(evidence: Evidence) -> list[Ladder]:
    by_place: dict[tuple[str, int, str], list[Sampled]] = {}
    for treatment in evidence.study.treatments:
        if isinstance(treatment, Sampled) and treatment.level is not None:
            by_place.setdefault((treatment.task, treatment.ws, treatment.sampler), []).append(treatment)
    return [
        Ladder(task, ws, tuple(sorted(levels, key=lambda each: each.level or 0.0)), _contents(evidence, task, ws))
        for (task, ws, _), levels in by_place.items()
    ]


def _contents(evidence: Evidence, task: str, ws: int) -> dict[str | None, Content]:
    """What every set of this Ws holds, by treatment."""
    found = rows(
        evidence.connection,
        """with counted as (
            select
                key, task, ws, treatment,
                sum(corpus_count)::bigint as occurrences,
                coalesce(sum(corpus_count) filter (where task_count = 0), 0)::bigint as irrelevant
            from token_counts
            group by all
        )
        select counted.*, overlap.type_overlap as coverage
        from counted left join overlap on counted.key = overlap.key and overlap.part = 'train'""",
    )
    return {
        row["treatment"]: Content(row["coverage"], row["occurrences"], row["irrelevant"] / row["occurrences"])
        for row in found
        if (row["task"], row["ws"]) == (task, ws) and row["occurrences"]
    }


Question = tuple[str, str, Corpus, Corpus]
"""Task, architecture, one set and the other."""


def _compared(evidence: Evidence, ladders: list[Ladder]) -> dict[Question, Comparison]:
    """Every question about one task is one family."""
    found: dict[Question, Comparison] = {}
    for task in dict.fromkeys(ladder.task for ladder in ladders):
        family: dict[Question, tuple[Correct | None, Correct | None]] = {}
        for ladder in ladders:
            low, high = ladder.ends
            pairs: list[tuple[Corpus, Corpus]] = (
                [((ladder.ws, high.label), (ladder.ws, low.label))] if len(ladder.levels) > 1 else []
            )
            pairs += [((ladder.ws, level.label), (ladder.ws, None)) for level in ladder.levels]
            for system in evidence.treated if ladder.task == task else ():
                for one, other in pairs:
                    both = (evidence.correct(task, system, *one), evidence.correct(task, system, *other))
                    family[task, system, one, other] = both
        found |= compare_measured(family)
    return found


def _verdict(evidence: Evidence, ladder: Ladder, system: str, found: dict[Question, Comparison]) -> Verdict:
    task, ws, (low, high) = ladder.task, ladder.ws, ladder.ends
    claim = (
        f"Tokens that {task} never uses lower accuracy, its own equally covered ({system}, Ws = {ws:,}, "
        f"{high.label} minus {low.label})"
    )
    if ladder.flaw:
        return Verdict(claim, NOT_MEASURED, ladder.flaw)
    links = tuple(link for end in ladder.ends for link in evidence.links(task, system, [ws], end.label))
    comparison = found.get((task, system, (ws, high.label), (ws, low.label)))
    return verdict(claim, comparison, paper=False, positive=False, links=links, more=ladder.text)


def _table(evidence: Evidence, ladders: list[Ladder], found: dict[Question, Comparison]) -> Table:
    body = []
    for ladder in ladders:
        task, ws = ladder.task, ladder.ws
        low, high = (end.label for end in ladder.ends)
        for system in evidence.treated:
            for label in (None, *(level.label for level in ladder.levels)):
                content = ladder.contents.get(label)
                against_random = found.get((task, system, (ws, label), (ws, None)))
                against_low = found.get((task, system, (ws, label), (ws, low)))
                body.append(
                    (
                        word(task),
                        word(system),
                        word(corpus_label(ws, label or "random")),
                        number(content.occurrences if content else None),
                        percent(content.irrelevant if content else None),
                        percent(content.coverage if content else None),
                        shown(evidence.accuracy(task, system, ws, label), evidence.links(task, system, [ws], label)),
                        shown(against_random) if label else Cell(NOT_AVAILABLE),
                        shown(against_low) if label == high else Cell(NOT_AVAILABLE),
                    )
                )
    columns = ("Task", "Architecture", "Ws", "Tokens", "Irrelevant occurrences, %", "Coverage of types, %")
    return Table(
        "Accuracy by the share of tokens that the task never uses",
        (*columns, "Accuracy, %", "Minus random set, points", "Minus lowest level, points"),
        tuple(body),
        "p-values of a task are one family (Holm). Only the highest level is set against the lowest.",
    )


def _range(contents: list[Content]) -> str:
    return f"{100 * contents[0].irrelevant:.1f} to {100 * contents[-1].irrelevant:.1f} %"


def _plot(evidence: Evidence, ladder: Ladder) -> Plot:
    series, levels = [], []
    for system in evidence.treated:
        points = []
        for level in ladder.levels:
            content = ladder.contents.get(level.label)
            accuracy = evidence.accuracy(ladder.task, system, ladder.ws, level.label)
            points += [point(100 * content.irrelevant, accuracy)] if content and accuracy else []
        series.append((f"{system}, chosen by level", points))
        for name, ws in (("random set", ladder.ws), ("scratch", 0)):
            if beside := evidence.accuracy(ladder.task, system, ws):
                levels.append((f"{system}, {name}", 100 * beside.value))
    name = f"{evidence.study.name}-{ladder.task}-{ladder.ws}-{ladder.levels[0].sampler}"
    title = f"{ladder.task}: accuracy against irrelevant tokens, Ws = {ladder.ws:,}"
    x = "Occurrences of the pre-training set that the task never uses, %"
    return lines(name, title, x, "Test accuracy, %", series, levels=levels)
