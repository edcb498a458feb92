"""How many floating point operations does a recipe save at equal accuracy, and which of its levers does it?

The study trains the same models by several recipes, its arms: `paper`, `modern`, and the modern one with one lever taken
away each. An arm has budgets, numbers of pre-training steps, so that it is a curve of accuracy against operations: those of
pre-training, and of the word vectors that it begins with. Accuracy is that over the items of all tasks together.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tlm.report.comparison import compare_measured, point, shown, verdict
from tlm.report.drawing import Plot, lines
from tlm.report.evidence import Correct, Evidence
from tlm.report.findings import NOT_KNOWN, NOT_MEASURED, ONE_SAMPLE, UNDECIDED, Findings, Outcome, Verdict
from tlm.report.formatting import NOT_AVAILABLE, Cell, Link, Table, number, word
from tlm.report.study_systems import in_arm, svd_only
from tlm.statistics import mean_accuracy
from tlm.statistics.reaching import Reached, cost_ratio

PAPER, MODERN = "paper", "modern"
GOAL = 10.0
"""Times fewer operations."""
ALL = "all tasks together"

Points = dict[int | None, tuple[float, Correct]]
"""By budget: operations of one pre-training, and which test items its models got right."""


def analyse(evidence: Evidence) -> Findings:
    """The factor between the two recipes, over all tasks and on each; what each lever is worth."""
    archs = [arch.name for arch in evidence.study.architectures]
    tasks = [task.name for task in evidence.study.tasks]
    levers = [arm for arm in evidence.study.arms if arm not in (PAPER, MODERN)]
    groups = [tasks, *([task] for task in tasks if len(tasks) > 1)]
    return Findings(
        verdicts=[
            *(_factor(evidence, arch, group) for arch in archs for group in groups),
            *(found for arch in archs for found in _needed(evidence, arch, levers, tasks)),
        ],
        tables=[_curves(evidence, archs, tasks), _levers(evidence, archs, levers, tasks)],
        plots=[_plot(evidence, arch, tasks) for arch in archs],
        notes=[
            "The factor: the operations with which the paper's recipe reaches the accuracy of its largest budget, over "
            "those with which the modern one reaches the same. Curves are made non-decreasing and read by interpolation in "
            "log operations; nothing is extrapolated, so that beyond a curve's end the factor is a bound (>, <).",
            "Its interval is a parametric bootstrap over seeds and items (`tlm.statistics.reaching`).",
            "Operations are those of matrix products (`tlm.modeling.cost`), three forward passes for a training step, and "
            "for word vectors those of the factorisation. Fine-tuning is the same work in every arm, but for what a lever "
            "changes of the model, and stands apart.",
            ONE_SAMPLE,
        ],
    )


# --- what was measured ---


def curve(evidence: Evidence, arch: str, arm: str, tasks: Iterable[str]) -> Points:
    """The points of an arm that were measured on all of these tasks, at the largest Ws."""
    ws, found = max(evidence.study.corpus.sizes), {}
    own = evidence.study.arms.get(arm)
    for steps in (own.budgets or (None,)) if own else ():
        name = in_arm(arch, arm, steps)
        correct = _together(evidence, name, ws, tasks)
        flops = [evidence.recorded("pretrain_flops", task, name, ws) for task in tasks]
        if correct is not None and flops[0]:
            found[steps] = (flops[0], correct)
    return found


def _together(evidence: Evidence, system: str, ws: int, tasks: Iterable[str]) -> Correct | None:
    """Correctness on the items of all tasks, one after the other; None if one of them was not measured."""
    found = [evidence.correct(task, system, ws) for task in tasks]
    there = [each for each in found if each is not None]
    alike = len({each.shape[:-1] for each in there}) == 1
    return np.concatenate(there, axis=-1) if len(there) == len(found) and alike else None


def ratio(own: Points, other: Points) -> Reached | None:
    """How many times the operations of `own` the other needs for the same accuracy; None if one was not measured."""
    return cost_ratio([*own.values()], [*other.values()]) if own and other else None


def _links(evidence: Evidence, arch: str, arm: str, tasks: Iterable[str]) -> tuple[Link, ...]:
    own, ws = evidence.study.arms[arm], max(evidence.study.corpus.sizes)
    names = [in_arm(arch, arm, steps) for steps in own.budgets or (None,)]
    return tuple(link for name in names for task in tasks for link in evidence.links(task, name, [ws]))


# --- verdicts ---


def _factor(evidence: Evidence, arch: str, tasks: list[str]) -> Verdict:
    where = tasks[0] if len(tasks) == 1 else ALL
    claim = (
        f"The modern recipe needs {GOAL:g} times fewer FLOPs than the paper's for the same accuracy, {arch} on {where}"
    )
    found = ratio(*(curve(evidence, arch, arm, tasks) for arm in (MODERN, PAPER)))
    if found is None:
        return Verdict(claim, NOT_MEASURED, NOT_KNOWN)
    outcome: Outcome = UNDECIDED
    ends = found.estimate
    if ends.seeds > 1 and (ends.low >= GOAL or ends.high < GOAL):
        outcome = "yes" if ends.low >= GOAL else "no"
    links = _links(evidence, arch, PAPER, tasks) + _links(evidence, arch, MODERN, tasks)
    return Verdict(claim, outcome, f"{found.text()} times", links=links, estimate=ends, unit="times")


def _needed(evidence: Evidence, arch: str, levers: list[str], tasks: list[str]) -> list[Verdict]:
    """Is the modern recipe worse without a lever, at the largest budget that both have? One family."""
    pairs = {lever: _at_common_budget(evidence, arch, lever, tasks) for lever in levers}
    found = compare_measured({lever: (whole, without) for lever, (_, whole, without) in pairs.items()})
    return [
        verdict(
            f"The modern recipe is better than the arm {lever}{_of(pairs[lever][0])}, {arch} on {ALL}",
            found.get(lever),
            paper=False,
            links=_links(evidence, arch, lever, tasks),
        )
        for lever in levers
    ]


def _at_common_budget(
    evidence: Evidence, arch: str, lever: str, tasks: list[str]
) -> tuple[int | None, Correct | None, Correct | None]:
    """The largest budget that the modern recipe and an arm were both measured at, and both."""
    modern, without = (curve(evidence, arch, arm, tasks) for arm in (MODERN, lever))
    common = [steps for steps in modern if steps in without]
    if not common:
        return None, None, None
    return common[-1], modern[common[-1]][1], without[common[-1]][1]


def _of(steps: int | None) -> str:
    return "" if steps is None else f" after {steps:,} steps"


# --- tables and plots ---


def _curves(evidence: Evidence, archs: list[str], tasks: list[str]) -> Table:
    rows = []
    ws = max(evidence.study.corpus.sizes)
    for arch in archs:
        for arm, own in evidence.study.arms.items():
            budgets = own.budgets or (None,)
            systems: list[tuple[str, str]] = [(_steps(steps), in_arm(arch, arm, steps)) for steps in budgets]
            if evidence.study.svd_arm:
                systems.insert(0, ("SVD only", svd_only(in_arm(arch, arm, None))))
            for steps, system in systems:
                correct = _together(evidence, system, ws, tasks)
                tuning = [evidence.recorded("finetune_flops", task, system, ws) for task in tasks]
                known = [each for each in tuning if each is not None]
                rows.append(
                    (
                        *(word(arch), word(arm), word(steps)),
                        number(evidence.recorded("pretrain_flops", tasks[0], system, ws), 3, scale=1e-12),
                        number(sum(known) if len(known) == len(tasks) else None, 3, scale=1e-12),
                        shown(None if correct is None else mean_accuracy(correct)),
                        *(
                            shown(evidence.accuracy(task, system, ws), evidence.links(task, system, [ws]))
                            for task in tasks
                        ),
                    )
                )
    return Table(
        f"Accuracy against operations, Ws = {ws:,}",
        (
            *("Architecture", "Arm", "Steps", "Pre-training, TFLOPs", "Fine-tuning on all tasks, TFLOPs"),
            *("Accuracy on all tasks, %", *(f"{task}, %" for task in tasks)),
        ),
        tuple(rows),
        "Operations of one run. SVD only: fine-tuned from word vectors, whose operations are those of their factorisation.",
    )


def _steps(steps: int | None) -> str:
    return NOT_AVAILABLE if steps is None else f"{steps:,}"


def _levers(evidence: Evidence, archs: list[str], levers: list[str], tasks: list[str]) -> Table:
    rows = []
    for arch in archs:
        modern = curve(evidence, arch, MODERN, tasks)
        pairs = {arm: _at_common_budget(evidence, arch, arm, tasks) for arm in (PAPER, *levers)}
        lost = compare_measured({arm: (without, whole) for arm, (_, whole, without) in pairs.items()})
        for arm in pairs:
            factor = ratio(modern, curve(evidence, arch, arm, tasks))
            rows.append(
                (
                    *(word(arch), word(arm), word(_steps(pairs[arm][0]))),
                    shown(lost.get(arm)),
                    Cell(NOT_MEASURED if factor is None else factor.text()),
                )
            )
    return Table(
        "What each lever is worth",
        (
            *("Architecture", "Arm", "Steps of both", "Arm minus modern, points"),
            "FLOPs of the arm for the same accuracy, times those of modern",
        ),
        tuple(rows),
        "On all tasks together. The difference is at the largest number of steps that both have, p-values are one family "
        "(Holm); the factor is at the accuracy that the arm reaches with its largest budget.",
    )


def _plot(evidence: Evidence, arch: str, tasks: list[str]) -> Plot:
    series = []
    for arm in evidence.study.arms:
        points = curve(evidence, arch, arm, tasks).values()
        series.append((arm, [point(flops, mean_accuracy(correct)) for flops, correct in points]))
    name = f"{evidence.study.name}-{arch}"
    title = f"{arch}: accuracy on {ALL} against operations of pre-training"
    return lines(name, title, "FLOPs of pre-training", "Test accuracy, %", series, log=True)
