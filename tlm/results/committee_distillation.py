"""Does a student keep what its teacher, a soft committee, has over its mean member, at the latency of one model?

A student is the twin of one fine-tuning: the same beginning, seed and items, taught by the committee whose members have its
seeds. Student, twin, committee and members are therefore matched: what they have in common by a seed cancels.

Shapes: P pre-training seeds, F fine-tuning seeds of each, S seeds, N test items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tlm.report.comparison import ALPHA, Comparison, compare_measured, point, shown, verdict
from tlm.report.drawing import Plot, bars
from tlm.report.evidence import Correct, Evidence
from tlm.report.findings import NOT_KNOWN, NOT_MEASURED, ONE_SAMPLE, UNDECIDED, Findings, Outcome, Verdict
from tlm.report.formatting import NOT_AVAILABLE, Cell, Table, word
from tlm.report.study_systems import distilled
from tlm.results.costs import cost_table
from tlm.statistics import Estimate, mean_accuracy
from tlm.statistics.contrast import contrast, share_of_gap
from tlm.study.config import CommitteeConfig, StudyConfig

HALF = 0.5
"""Of the committee's advantage over its mean member: what a student is asked to keep more than."""

Place = tuple[str, str]
"""Task and student."""


@dataclass(frozen=True)
class Measured:
    """Which test items each system got right; all four have the same seeds, in the same order."""

    student: Correct
    twin: Correct
    committee: Correct
    members: Correct
    """(units, members of each, N)"""

    @property
    def share(self) -> Estimate | None:
        """Of the committee's advantage, what the student keeps; None where the advantage is not resolved."""
        return share_of_gap(self.student, self.committee, self.members, matched=True)

    def beyond_half(self, confidence: float) -> Estimate:
        """Accuracy of the student minus that half-way between the mean member and the committee."""
        systems = [self.student, self.committee, self.members]
        return contrast(systems, [1, -HALF, HALF - 1], confidence=confidence, matched=True)


def analyse(evidence: Evidence) -> Findings:
    """Whether students are better than their twins, and how much of the committee's advantage they keep."""
    study = evidence.study
    asked, ws = study.distillation, max(study.corpus.sizes)
    if asked is None:
        claim = "A student keeps more than half of its committee's advantage"
        return Findings([Verdict(claim, NOT_MEASURED, "the study has no student")])
    teacher = next(each for each in study.committees if each.name == asked.teacher)
    places = [(task.name, student) for task in study.tasks for student in asked.students]
    found = {place: _measured(evidence, place, teacher, ws) for place in places}
    against_twins = compare_measured(
        {place: (each.student, each.twin) if each else (None, None) for place, each in found.items()}, matched=True
    )
    return Findings(
        verdicts=[
            *(_keeps_half(evidence, place, found[place], teacher, ws, len(places)) for place in places),
            *(_better_than_twin(evidence, place, against_twins.get(place), ws) for place in places),
        ],
        tables=[
            _table(evidence, found, against_twins, teacher, ws),
            cost_table(evidence, _systems(asked.students, teacher)),
        ],
        plots=[_plot(study, student, found, teacher) for student in asked.students],
        notes=[
            f"A student minimises (1 − α) · CE + α · T² · KL(teacher ‖ student), α = {asked.alpha:g}, T = "
            f"{asked.temperature:g}. Its teacher is a soft committee of {len(teacher.members)} that has its seeds, asked "
            "about the training items alone.",
            "Student, twin, committee and members of one seed belong together: intervals are over what they differ by. "
            "Whether more than half is kept is judged by intervals that hold for all tasks and students together at 95 % "
            "(Bonferroni); those shown are of each alone.",
            ONE_SAMPLE,
        ],
    )


def _measured(evidence: Evidence, place: Place, teacher: CommitteeConfig, ws: int) -> Measured | None:
    """None unless all were measured, with the same seeds."""
    task, student = place
    alone = [evidence.correct(task, name, ws) for name in (distilled(student), student, *teacher.members)]
    committee = evidence.committee(task, teacher.name, ws, len(teacher.members))
    there = [each for each in alone if each is not None]
    if committee is None or len(there) < len(alone) or len({each.shape for each in there}) > 1:
        return None
    taught, twin, *members = there
    together = _by_seed(committee, evidence.study, twin)
    if together is None:
        return None
    nested = np.stack(members, axis=-2)
    return Measured(taught, twin, together, nested.reshape(len(nested), -1, nested.shape[-1]))


def _by_seed(committee: Correct, study: StudyConfig, like: Correct) -> NDArray[np.bool_] | None:
    """Committees in the shape and in the order of seeds of single models, which is ascending; None if some are missing."""
    flat_CN = committee.reshape(-1, committee.shape[-1])
    if len(flat_CN) != like.size // like.shape[-1]:
        return None
    pretrained, tuned = np.argsort(study.pretrain_seeds), np.argsort(study.finetune_seeds)
    if study.seeds == "paired":
        return flat_CN[pretrained].reshape(like.shape)
    cube_PFN = flat_CN.reshape(len(pretrained), len(tuned), -1)[pretrained][:, tuned]
    return cube_PFN.reshape(like.shape)


# --- verdicts ---


def _keeps_half(
    evidence: Evidence, place: Place, found: Measured | None, teacher: CommitteeConfig, ws: int, questions: int
) -> Verdict:
    task, student = place
    claim = (
        f"A student {student} keeps more than half of the advantage of a committee of {len(teacher.members)} "
        f"({teacher.name}) over its mean member on {task}, at one model's latency"
    )
    links = evidence.links(task, distilled(student), [ws], kind="finetune")
    if found is None:
        return Verdict(claim, NOT_MEASURED, NOT_KNOWN)
    share = found.share
    if share is None:
        advantage = contrast([found.committee, found.members], [1, -1], matched=True)
        figure = f"the committee's advantage is not resolved: {advantage.text(signed=True)}"
        return Verdict(claim, UNDECIDED, figure, links=links, estimate=advantage)
    outcome = _judge(found.beyond_half(1 - ALPHA / questions), share)
    return Verdict(claim, outcome, f"{share.text()} %", links=links, estimate=share, unit="% of the advantage")


def _judge(beyond: Estimate, share: Estimate) -> Outcome:
    """By the whole interval; a committee that is worse than its members has nothing to keep."""
    if not beyond.resolved or share.seeds == 1:
        return UNDECIDED
    return "yes" if beyond.value > 0 else "no"


def _better_than_twin(evidence: Evidence, place: Place, found: Comparison | None, ws: int) -> Verdict:
    task, student = place
    claim = f"A student {student} is better than its twin trained without the teacher on {task}"
    names = (distilled(student), student)
    links = tuple(link for name in names for link in evidence.links(task, name, [ws], kind="finetune"))
    return verdict(claim, found, paper=False, links=links)


# --- table and plot ---


def _systems(students: Sequence[str], teacher: CommitteeConfig) -> list[tuple[str, Sequence[str]]]:
    singles: list[tuple[str, Sequence[str]]] = [(distilled(student), [student]) for student in students]
    return [*singles, (f"{teacher.name}, soft", teacher.members)]


def _table(
    evidence: Evidence,
    found: dict[Place, Measured | None],
    against_twins: dict[Place, Comparison],
    teacher: CommitteeConfig,
    ws: int,
) -> Table:
    body = []
    for (task, student), each in found.items():
        links = evidence.links(task, distilled(student), [ws], kind="finetune")
        systems = (each.members, each.twin, each.student, each.committee) if each else (None,) * 4
        accuracies = [None if system is None else mean_accuracy(system) for system in systems]
        share = each.share if each else None
        body.append(
            (
                *(word(task), word(student)),
                *(shown(accuracy, links if place == 2 else ()) for place, accuracy in enumerate(accuracies)),
                shown(against_twins.get((task, student))),
                Cell(f"{share.text()} %" if share else NOT_AVAILABLE),
            )
        )
    return Table(
        f"Students of {teacher.name}, Ws = {ws:,}",
        (
            *("Task", "Student", "Mean member, %", "Twin, %", "Student, %", f"Committee of {len(teacher.members)}, %"),
            *("Student minus twin, points", "Kept of the committee's advantage"),
        ),
        tuple(body),
        "p-values are one family (Holm). Shares have Fieller's interval, and are n/a where the advantage is not resolved.",
    )


def _plot(study: StudyConfig, student: str, found: dict[Place, Measured | None], teacher: CommitteeConfig) -> Plot:
    labels = (
        "mean member",
        f"{student} without teacher",
        f"{student}, distilled",
        f"committee of {len(teacher.members)}",
    )
    series = []
    for place, label in enumerate(labels):
        points = []
        for task in study.tasks:
            each = found[task.name, student]
            own = (each.members, each.twin, each.student, each.committee)[place] if each else None
            points.append(None if own is None else point(0, mean_accuracy(own)))
        series.append((label, points))
    title = f"{student} taught by the committee {teacher.name}"
    return bars(f"{study.name}-{student}", title, "Test accuracy, %", [task.name for task in study.tasks], series)
