"""Is a pre-training set that was chosen for the task better than a random one of the same Ws?"""

from __future__ import annotations

from typing import NamedTuple

from tlm.report.comparison import Comparison, compare_measured, point, shown, verdict
from tlm.report.drawing import Plot, bars
from tlm.report.evidence import Evidence
from tlm.report.findings import ONE_SAMPLE, Findings, Verdict
from tlm.report.formatting import Table, number, percent, word
from tlm.study.treatments import Sampled


class Choice(NamedTuple):
    """A chosen pre-training set, and the architecture that was pre-trained on it."""

    task: str
    arch: str
    ws: int
    label: str


def analyse(evidence: Evidence) -> Findings:
    """Each sampler's set against the random one: overlap with the task, held-out loss, and accuracy."""
    choices = _choices(evidence)
    found = compare_measured(
        {
            choice: (evidence.correct(*choice), evidence.correct(choice.task, choice.arch, choice.ws))
            for choice in choices
        }
    )
    plain = evidence.study.corpus.sampler
    return Findings(
        verdicts=[_better(evidence, choice, found.get(choice), plain) for choice in choices],
        tables=[_table(evidence, choices, found, plain)],
        plots=[_plot(evidence, choices, *place, plain) for place in dict.fromkeys((c.task, c.ws) for c in choices)],
        notes=[
            ONE_SAMPLE,
            "Samplers look at the task's training items, never at dev or test items. Held-out loss is on paragraphs that "
            "no set holds, drawn at random: a set chosen for a task may well do worse there.",
        ],
    )


def _choices(evidence: Evidence) -> list[Choice]:
    sampled = [each for each in evidence.study.treatments if isinstance(each, Sampled)]
    return [Choice(each.task, arch, each.ws, each.label) for arch in evidence.treated for each in sampled]


def _better(evidence: Evidence, choice: Choice, comparison: Comparison | None, plain: str) -> Verdict:
    task, arch, ws, label = choice
    claim = f"Paragraphs chosen by {label} are better than {plain} ones at Ws = {ws:,} ({arch} on {task})"
    links = evidence.links(task, arch, [ws], label) + evidence.links(task, arch, [ws])
    return verdict(claim, comparison, paper=False, links=links)


def _table(evidence: Evidence, choices: list[Choice], found: dict[Choice, Comparison], plain: str) -> Table:
    rows = []
    for task, arch, ws in dict.fromkeys((choice.task, choice.arch, choice.ws) for choice in choices):
        own = [choice for choice in choices if (choice.task, choice.arch, choice.ws) == (task, arch, ws)]
        for label in (None, *(choice.label for choice in own)):
            links = evidence.links(task, arch, [ws], label)
            rows.append(
                (
                    word(task),
                    word(arch),
                    number(ws),
                    word(label or plain),
                    percent(evidence.recorded("type_overlap", task, arch, ws, label)),
                    percent(evidence.recorded("occurrence_overlap", task, arch, ws, label)),
                    number(evidence.recorded("heldout_loss", task, arch, ws, label), 2),
                    shown(evidence.accuracy(task, arch, ws, label), links),
                    shown(found.get(Choice(task, arch, ws, label))) if label else number(None),
                )
            )
    return Table(
        "Chosen pre-training sets against one drawn as all others are",
        (
            *("Task", "Architecture", "Ws", "Sampler", "Type overlap, %", "Occurrence overlap, %"),
            *("Held-out loss, nats", "Accuracy, %", f"Difference from {plain}, points"),
        ),
        tuple(rows),
        "Overlap: the share of the task's distinct tokens, or of their occurrences, that the set holds. p-values are one "
        "family (Holm).",
    )


def _plot(evidence: Evidence, choices: list[Choice], task: str, ws: int, plain: str) -> Plot:
    own = [choice for choice in choices if (choice.task, choice.ws) == (task, ws)]
    labels = [None, *dict.fromkeys(choice.label for choice in own)]
    series = []
    for arch in dict.fromkeys(choice.arch for choice in own):
        measured = [evidence.accuracy(task, arch, ws, label) for label in labels]
        series.append((arch, [None if accuracy is None else point(0, accuracy) for accuracy in measured]))
    name, title = f"{evidence.study.name}-{task}-ws{ws}", f"{task}, Ws = {ws:,}: accuracy by how paragraphs are chosen"
    return bars(name, title, "Test accuracy, %", [label or plain for label in labels], series)
