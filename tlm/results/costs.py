"""What a single model and a committee cost: parameters, operations, and the time to an answer where it was measured."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from tlm.modeling.cost import classifier_flops, sequential_depth
from tlm.report.evidence import Evidence
from tlm.report.formatting import NOT_AVAILABLE, Cell, Row, Table, number, word
from tlm.report.marts import rows
from tlm.study.architecture import Architecture

Facts = dict[str, Any]


def cost_table(evidence: Evidence, systems: Sequence[tuple[str, Sequence[str]]]) -> Table:
    """For each task, what each system costs.

    Args:
        systems: what to call it, and its members' architectures, each as often as it has one.
    """
    study = evidence.study
    measured = latencies(evidence)
    sizes = sorted({size for facts in measured.values() for size in _batch_sizes(facts)})
    labels = {row["task"]: row["labels"] for row in _labels(evidence)}
    body = []
    for task in study.tasks:
        for name, members in systems:
            shapes = [study.architecture_of[member] for member in members]
            known = [measured[task.name, member] for member in members if (task.name, member) in measured]
            body.append(
                (
                    word(task.name),
                    word(name),
                    number(len(members)),
                    number(_parameters(evidence, task.name, members), 2, scale=1e-6),
                    number(_flops(shapes, study.max_length, labels.get(task.name)), 2, scale=1e-6),
                    number(max(sequential_depth(shape) for shape in shapes)),
                    *(_time(known if len(known) == len(members) else [], size) for size in sizes),
                )
            )
    return Table(
        "What it costs to answer",
        (
            *("Task", "System", "Members", "Parameters, millions", "MFLOPs a text", "Sequential depth"),
            *(f"Time to answer {size} text{'s' if size > 1 else ''}, ms" for size in sizes),
        ),
        tuple(body),
        _note(measured, study.max_length),
    )


def latencies(evidence: Evidence) -> dict[tuple[str, str], Facts]:
    """By task and system: what its stage `latency` measured, the latest time where there are several.

    Where that does not say which model it measured, it is of the architecture as it is.
    """
    system_of: dict[str, str] = {row["key"]: row["system"] for row in evidence.results}
    found = rows(
        evidence.connection, "select task, arch, facts from runs where stage = 'latency' order by created, key"
    )
    measured = [(row, json.loads(row["facts"])) for row in found]
    return {
        (str(row["task"]), system_of.get(facts.get("model_key", ""), str(row["arch"]))): facts
        for row, facts in measured
    }


def _batch_sizes(facts: Facts) -> list[int]:
    return [int(match[1]) for name in facts if (match := re.fullmatch(r"p50_ms_(\d+)", name))]


def _labels(evidence: Evidence) -> list[Row]:
    return list(
        rows(evidence.connection, "select task, count(distinct label) as labels from predictions group by task")
    )


def _parameters(evidence: Evidence, task: str, members: Sequence[str]) -> float | None:
    of_member = [
        next((n for ws in evidence.study.corpus.sizes if (n := evidence.recorded("parameters", task, m, ws))), None)
        for m in members
    ]
    known = [parameters for parameters in of_member if parameters is not None]
    return sum(known) if len(known) == len(of_member) else None


def _flops(shapes: Sequence[Architecture], length: int, labels: int | None) -> float | None:
    return sum(classifier_flops(shape, length, labels) for shape in shapes) if labels else None


def _time(members: Sequence[Facts], size: int) -> Cell:
    """The time of all members one after another; of several also the slowest's, where each has a core."""
    name = f"p50_ms_{size}"
    times: list[float] = [facts[name] for facts in members if name in facts]
    if not times or len(times) < len(members):
        return Cell(NOT_AVAILABLE)
    return Cell(f"{sum(times):.2f}" + (f" (slowest member {max(times):.2f})" if len(times) > 1 else ""))


def _note(measured: dict[tuple[str, str], Facts], length: int) -> str:
    costs = f"FLOPs are those of a text of max_length, {length} tokens; depth and FLOPs follow from the shapes."
    if not measured:
        return f"{costs} Times were not measured."
    how = sorted({_how(facts) for facts in measured.values()})
    return (
        f"{costs} Times are medians of repeated calls on this machine, tokenised text to logits: {'; '.join(how)}. A "
        "committee's members are taken one after another; beside them other work of the study may have run."
    )


def _how(facts: Facts) -> str:
    threads, machine = facts.get("threads"), f"{facts.get('processor')}, {facts.get('cores')} cores"
    return f"{threads} thread{'s' if threads != 1 else ''}, {facts.get('precision')}, {facts.get('device')} ({machine})"
