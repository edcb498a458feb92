"""`tlm plan`: what a study would do and cost, as tables. Writes nothing; without the projected time it needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tlm.artifacts.inspection import Inspection
from tlm.artifacts.step import Label, Step
from tlm.artifacts.store import ArtifactStore
from tlm.cost.estimate import Cost, Estimate, estimate
from tlm.data.sources import left_out
from tlm.errors import UserError
from tlm.machine.memory import GIB
from tlm.machine.runtime import Runtime
from tlm.modeling.cost import claims, parameter_counts, pretraining_flops
from tlm.planning.disk import free_disk, weights_to_keep
from tlm.planning.found import inspected
from tlm.planning.memory import least_memory, room_for_training
from tlm.planning.plan import Plan
from tlm.planning.weights import check_weights
from tlm.report.study_systems import shapes
from tlm.study.config import StudyConfig
from tlm.study.sources import Source

THOUSANDS = ("", "k", "M", "G", "T", "P", "E")
NAMED = 8
"""Files that a line names."""
COLUMNS = ("steps", "cached", "to run", "training tokens", "FLOPs", "projected")


def show_plan(
    planned: Plan,
    store: ArtifactStore,
    runtime: Runtime,
    console: Console,
    *,
    steps: bool = False,
    time: bool = True,
    verdicts: bool = False,
) -> None:
    """Print by stage (with `steps` also each step): steps, cached, to run, training tokens, FLOPs, projected time; and what
    parameters each architecture has.

    Tokens and operations are those of the whole study, the time that of what is still to run. `time` measures some
    optimiser steps first: several seconds for each model and task, nothing if all training steps are in the store.
    `verdicts` prints which half-width each verdict will have, from a rehearsal of a few seconds.

    Raises:
        UserError: if a vocabulary or label file is missing, or if the memory does not hold a batch.
    """
    found = inspected(planned, store)
    facts = {key: seen.record.facts for key, seen in found.items() if seen.status == "complete" and seen.record}
    costs = estimate(planned, facts, runtime.data_root)
    projected = _project(planned, found, costs, store, runtime, console) if time else None
    if steps:
        console.print(_steps_table(planned, found, costs.costs))
    console.print(_stages_table(planned, found, costs.costs, projected))
    console.print(_parameters_table(planned, costs.costs))
    todo = [step for step in planned.steps if step.key not in facts]
    bare = sum(map(_is_without_weights, found.values()))
    cached = f"{len(facts)} cached{f' ({bare} of them without weights)' if bare else ''}"
    console.print(f"{len(found)} steps: {cached}, {len(todo)} to run.", highlight=False)
    lines = [*_refused(todo, store)]
    lines += [f"Training: {_work(list(costs.costs.values()))}; of it to run: {_work(_of(todo, costs.costs))}."]
    lines += [f"{each.name}: {claim}" for each in shapes(planned.study) for claim in claims(each.architecture)]
    lines += [f"Assumed: {text}." for text in costs.assumptions]
    lines += [*(projected.lines if projected else []), *_room(planned.study, todo, runtime)]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
    if verdicts:
        from flows.rehearsing import show_verdicts

        show_verdicts(planned, costs.items, runtime, console)


def show_left_out(planned: Plan, runtime: Runtime, say: Callable[[str], object]) -> None:
    """Name what lies in the folders of the study's sources and is not read, a line for each source."""
    for step in planned.steps:
        if step.stage == "source":
            source: Source = TypeAdapter(Source).validate_python(step.access["source"])
            names = left_out(source, runtime.data_root)
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            if names:
                say(f"Not read: {', '.join(names[:NAMED])}{more}.")


def show_reuse(plans: Mapping[str, Plan], store: ArtifactStore, console: Console) -> None:
    """Print for each study its steps, how many of them studies above it have too, and how many the store holds."""
    table = _table("study", "steps", "shared with those above", "cached", "to run")
    seen: set[str] = set()
    cached: set[str] = set()
    for name, planned in plans.items():
        found = inspected(planned, store)
        complete = {key for key, each in found.items() if each.status == "complete"}
        new = found.keys() - seen
        cells = (len(found), len(found) - len(new), len(complete), len(new - complete))
        table.add_row(name, *(f"{cell:,}" for cell in cells))
        seen |= found.keys()
        cached |= complete
    console.print(table)
    total = sum(len(planned.steps) for planned in plans.values())
    console.print(
        f"{total:,} steps, {len(seen):,} different ones: {len(cached):,} cached, {len(seen - cached):,} to run.",
        highlight=False,
    )


def _room(study: StudyConfig, todo: Sequence[Step], runtime: Runtime) -> Iterator[str]:
    """What the steps take of memory and disk at the least, beside what is free."""
    if least := least_memory(study, todo, runtime):
        needed, model = least
        _, free = room_for_training(runtime)
        yield f"Memory: to train {model} takes more than {needed / GIB:.2f} GiB{f'; {free}' if free else ''}."
    models, weights = weights_to_keep(study, todo, runtime)
    if models:
        free_bytes = free_disk(runtime)
        there = "" if free_bytes is None else f"; {free_bytes / GIB:.1f} GiB are free"
        yield f"Disk: the weights of {models:,} models take {weights / GIB:.2f} GiB{there}."


def _is_without_weights(seen: Inspection) -> bool:
    return seen.status == "complete" and seen.record is not None and bool(seen.record.left_behind)


def _refused(todo: Iterable[Step], store: ArtifactStore) -> Iterator[str]:
    """Why `tlm run` would refuse these steps, for want of weights."""
    try:
        check_weights(todo, store)
    except UserError as error:
        yield str(error)


# --- the projected time ---


@dataclass(frozen=True)
class _Projected:
    """Seconds by stage and in all, and the sentences below the table."""

    by_stage: Mapping[str, float]
    lines: list[str]


def _project(
    planned: Plan,
    found: Mapping[str, Inspection],
    costs: Estimate,
    store: ArtifactStore,
    runtime: Runtime,
    console: Console,
) -> _Projected:
    from tlm.cost.calibration import SECONDS, calibrate, project, side_by_side

    todo = {key for key, seen in found.items() if seen.status != "complete"}
    if not todo:
        return _Projected({}, ["Everything is in the store: a run takes no time but for checking it."])
    trained = [cost for key, cost in costs.costs.items() if key in todo]
    calibration = None
    if trained:
        processes = side_by_side(runtime, len(trained))
        with console.status("calibrating") as status:

            def progress(done: int, total: int, what: str) -> None:
                status.update(Text(f"calibrating, {done} of {total} done: {what}"))

            workloads = [cost.workload for cost in trained]
            calibration = calibrate(workloads, runtime, processes=processes, progress=progress)
    projection = project(planned, todo, costs.costs, calibration, store.records())
    by_stage: dict[str, float] = {}
    for step in planned.steps:
        if step.key in projection.of:
            by_stage[step.stage] = by_stage.get(step.stage, 0.0) + projection.of[step.key] / projection.processes
    lines = []
    if calibration is not None:
        how = f"{calibration.processes} × {calibration.threads} thread{'s' if calibration.threads > 1 else ''}"
        chain = ", as long as its longest chain" if projection.total == projection.longest_chain else ""
        lines.append(f"Projected: {duration(projection.total)} on {calibration.device}, {how}{chain}.")
        lines.append(
            f"A projection, not a promise: from {len(calibration.measured)} kinds of optimiser step on made-up text, "
            f"{SECONDS:g} s each, evaluation at the same rate, on the machine as busy as it is now."
        )
    if any(step.stage in projection.uncounted for step in planned.steps if step.key in todo):
        lines.append(f"Not counted, for the store has no example: {', '.join(projection.uncounted)}.")
    return _Projected(by_stage, lines)


# --- tables ---


def _stages_table(
    planned: Plan, found: Mapping[str, Inspection], costs: Mapping[str, Cost], projected: _Projected | None
) -> Table:
    table = _table("stage", *COLUMNS[: None if projected else -1])
    for stage in dict.fromkeys(step.stage for step in planned.steps):
        own = [step for step in planned.steps if step.stage == stage]
        cached = sum(found[step.key].status == "complete" for step in own)
        trained = _of(own, costs)
        cells = [str(len(own)), str(cached), str(len(own) - cached), *_tokens_and_flops(trained)]
        if projected:
            cells.append(duration(projected.by_stage[stage]) if stage in projected.by_stage else "")
        table.add_row(stage, *cells)
    return table


def _steps_table(planned: Plan, found: Mapping[str, Inspection], costs: Mapping[str, Cost]) -> Table:
    table = _table("stage", "step", "status", "training tokens", "FLOPs")
    for step in planned.steps:
        status = found[step.key].status
        word = "cached" if status == "complete" else f"to run ({status})"
        word += ", without weights" if _is_without_weights(found[step.key]) else ""
        table.add_row(step.stage, str(step.ref).partition("/")[2], word, *_tokens_and_flops(_of([step], costs)))
    return table


def _parameters_table(planned: Plan, costs: Mapping[str, Cost]) -> Table:
    """What each architecture's language model stores, and what a token of it costs."""
    table = _table("architecture", "parameters", "embeddings and head", "core", "used by a token", "FLOPs a token")
    trained = [(step.labels, costs[step.key].workload.vocab_size) for step in planned.steps if step.key in costs]
    sizes = {(str(labels["arch"]), _name(labels.get("arm"))): size for labels, size in trained}
    for shape in shapes(planned.study):
        if (vocab_size := shape.vocabulary(sizes)) is None:
            continue
        architecture, own = shape.architecture, shape.study
        counts = parameter_counts(architecture, vocab_size=vocab_size, max_position_embeddings=own.max_length)
        flops = pretraining_flops(architecture, own.pretrain, own.max_length, vocab_size) / own.max_length
        share = f"{scaled(counts.embeddings_and_head)} ({100 * counts.embeddings_and_head / counts.stored:.1f} %)"
        cells = f"{counts.stored:,}", share, scaled(counts.core), scaled(counts.used), scaled(flops, "FLOP")
        table.add_row(shape.name, *cells)
    return table


def _name(label: Label) -> str | None:
    return None if label is None else str(label)


def _table(*columns: str) -> Table:
    """Columns of words to the left, of numbers to the right."""
    table = Table()
    for column in columns:  # folded where it is too long, because a step's name is there to be copied
        table.add_column(
            column,
            overflow="fold",
            justify="left" if column in ("study", "stage", "step", "status", "architecture") else "right",
        )
    return table


def _of(steps: Iterable[Step], costs: Mapping[str, Cost]) -> list[Cost]:
    return [costs[step.key] for step in steps if step.key in costs]


def _tokens_and_flops(costs: list[Cost]) -> tuple[str, str]:
    if not costs:
        return "", ""
    return scaled(sum(cost.tokens for cost in costs)), scaled(sum(cost.flops for cost in costs), "FLOP")


def _work(costs: list[Cost]) -> str:
    tokens, flops = _tokens_and_flops(costs)
    return f"{tokens} tokens, {flops}" if tokens else "nothing"


# --- numbers for people ---


def scaled(value: float, unit: str = "") -> str:
    """Three digits and a prefix: `12.3 M`, `4.56 PFLOP`, `812`."""
    power = 0
    while value >= 999.5 and power < len(THOUSANDS) - 1:
        value /= 1000
        power += 1
    digits = 0 if power == 0 or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:,.{digits}f} {THOUSANDS[power]}{unit}".strip()


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.4 h`, `5.2 days`; below a second `< 1 s`."""
    if seconds < 1:
        return "< 1 s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 100 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.1f} days"
