"""Do committees of shallow decoders replace a deep one? And what does pre-training do for each of them?

The first question is that of `tlm.results.committees`, asked of decoders alone.
"""

from __future__ import annotations

from copy import copy

from tlm.report.comparison import Comparison, compare_measured, point, shown, verdict
from tlm.report.drawing import Plot, bars
from tlm.report.evidence import Correct, Evidence
from tlm.report.findings import NOT_MEASURED, Findings, Verdict
from tlm.report.formatting import Table, word
from tlm.results.committees import replacement
from tlm.statistics import mean_accuracy
from tlm.study.config import StudyConfig

Case = tuple[str, str]
"""Task, and architecture or committee."""
Pair = tuple[Correct | None, Correct | None]
"""Pre-trained and from scratch."""


def analyse(evidence: Evidence) -> Findings:
    """The gap of each decoder and committee, then committees against the deep decoder."""
    if not any(arch.kind == "decoder" for arch in evidence.study.architectures):
        claim = "A soft committee of shallow decoders can replace a deep one"
        return Findings([Verdict(claim, NOT_MEASURED, "the study has no decoder")])
    decoders = copy(evidence)
    decoders.study = only_decoders(evidence.study)
    against = replacement(decoders, paper=False)
    pairs = _pairs(decoders)
    gaps = compare_measured(pairs)
    ws = max(decoders.study.corpus.sizes)
    verdicts = [
        verdict(
            f"Pre-training on {ws:,} paragraphs helps {system} on {task}",
            gaps.get((task, system)),
            paper=False,
            links=decoders.links(task, system, (0, ws)),
        )
        for task, system in pairs
    ]
    return Findings(
        [*verdicts, *against.verdicts],
        [_table(decoders, pairs, gaps), *against.tables],
        [*(_plot(decoders, task.name, pairs) for task in decoders.study.tasks), *against.plots],
        against.notes,
    )


def only_decoders(study: StudyConfig) -> StudyConfig:
    """The study without encoders, and without committees that have one."""
    kept = tuple(arch for arch in study.architectures if arch.kind == "decoder")
    names = {arch.name for arch in kept}
    committees = tuple(committee for committee in study.committees if set(committee.members) <= names)
    return study.model_copy(update={"architectures": kept, "committees": committees})


def _pairs(evidence: Evidence) -> dict[Case, Pair]:
    """One family. A committee has one member of each of its architectures; of one architecture, it would be that one."""
    study = evidence.study
    ws = max(study.corpus.sizes)
    found: dict[Case, Pair] = {}
    for task in study.tasks:
        for arch in study.architectures:
            found[task.name, arch.name] = (
                evidence.correct(task.name, arch.name, ws),
                evidence.correct(task.name, arch.name, 0),
            )
        for committee in study.committees:
            if (size := len(committee.members)) > 1:
                found[task.name, committee.name] = (
                    evidence.committee(task.name, committee.name, ws, size),
                    evidence.committee(task.name, committee.name, 0, size),
                )
    return found


def _table(evidence: Evidence, pairs: dict[Case, Pair], gaps: dict[Case, Comparison]) -> Table:
    ws = max(evidence.study.corpus.sizes)
    members = {committee.name: len(committee.members) for committee in evidence.study.committees}
    body = tuple(
        (
            word(task),
            word(f"{system}, soft committee of {members[system]}" if system in members else system),
            shown(None if scratch is None else mean_accuracy(scratch), evidence.links(task, system, [0])),
            shown(None if pretrained is None else mean_accuracy(pretrained), evidence.links(task, system, [ws])),
            shown(gaps.get((task, system))),
        )
        for (task, system), (pretrained, scratch) in pairs.items()
    )
    return Table(
        f"Gap of decoders, Ws = {ws:,}",
        ("Task", "System", "Scratch, %", "Pre-trained, %", "Gap, points"),
        body,
        "p-values are one family (Holm).",
    )


def _plot(evidence: Evidence, task: str, pairs: dict[Case, Pair]) -> Plot:
    ws = max(evidence.study.corpus.sizes)
    here = {system: pair for (name, system), pair in pairs.items() if name == task}
    series = []
    for label, place in (("scratch", 1), (f"Ws = {ws:,}", 0)):
        measured = [pair[place] for pair in here.values()]
        series.append((label, [None if it is None else point(0, mean_accuracy(it)) for it in measured]))
    name = f"{evidence.study.name}-{task}-gap"
    return bars(name, f"{task}: decoders with and without pre-training", "Test accuracy, %", list(here), series)
