"""All cases, one after another: ceilings, memory, speed, and the results so far saved after each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from benchmarks import contenders, machine, memory, results, speed
from benchmarks.cases import Case
from benchmarks.setting import Setting
from benchmarks.work import matmul_ceiling
from benchmarks.workload import load, prepare
from tlm.errors import UserError
from tlm.machine.precision import native_precision


@dataclass(frozen=True)
class Options:
    """How to measure. `seconds`: about how long each contender's turn in a round lasts."""

    out: Path
    rounds: int
    seconds: float
    threads: int
    device: str
    memory: bool


def prepare_workloads(cases: Sequence[Case], prepared: Path | None, out: Path, console: Console) -> dict[str, Path]:
    """The folder of each workload that the cases need: below `prepared`, or made now below `out`."""
    lengths = {case.workload: case.max_length for case in cases}
    folders = {name: (prepared or out / "workloads") / name for name in lengths}
    if prepared is None:
        for name, folder in folders.items():
            console.print(f"Preparing {name} …")
            prepare(name, folder, lengths[name])
    return folders


def compare(
    cases: Sequence[Case], folders: Mapping[str, Path], options: Options, console: Console
) -> list[results.Row]:
    """Measure, print and save. The folders are those of the workloads, by name.

    Raises:
        UserError: there is no such device.
    """
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda was asked for, but torch sees no CUDA device.", "Use --device cpu.")
    torch.set_num_threads(options.threads)
    facts = machine.facts(options.device, options.threads)
    facts["rounds"] = f"{options.rounds} of about {options.seconds:g} s for each contender"
    rows: list[results.Row] = []
    notes: list[str] = []
    below: list[str] = []
    timings: list[speed.Timing] = []
    for case in cases:
        console.print(f"{case.name} …")
        setting = Setting.of(case, load(folders[case.workload]), options.device)
        notes += _absences(case)
        peaks = _peaks(setting, options) if options.memory else {}
        own, ceilings = _timings(setting, options)
        best = ", ".join(f"{precision} {gflops:,.0f} GF/s" for precision, gflops in ceilings.items())
        notes.append(f"{case.name}: matrix product {'×'.join(map(str, _product(case)))}, {best}")
        timings += own
        rows += results.summarise(own, peaks, ceilings)
        below = [results.disturbance(timings), *(f"{name}: {value}" for name, value in facts.items()), *notes]
        results.save(options.out, rows, timings, facts, below)
    results.show(rows, console)
    for line in (results.LEGEND, *below):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(f"Saved in {options.out}", soft_wrap=True)
    return rows


def _product(case: Case) -> tuple[int, int, int]:
    """The feed-forward product of a padded batch: tokens, hidden size, 4 hidden."""
    return case.batch_size * case.max_length, case.shape.hidden_size, 4 * case.shape.hidden_size


def _absences(case: Case) -> list[str]:
    reasons = {name: contenders.left_out(case, name) for name in contenders.NAMES}
    return [f"{case.name} without {name}: {reason}" for name, reason in reasons.items() if reason is not None]


def _peaks(setting: Setting, options: Options) -> dict[str, int]:
    """Peak memory in bytes by contender, one process after another."""
    return {name: memory.measure(name, setting, options.threads) for name in contenders.names_for(setting.case)}


def _timings(setting: Setting, options: Options) -> tuple[list[speed.Timing], dict[str, float]]:
    """All rounds of a case, and the best matrix product seen between them, in gigaflops per second by precision."""
    built = {name: contenders.build(name, setting) for name in contenders.names_for(setting.case)}
    plan = speed.plan_rounds(setting, built, options.seconds)
    tokens, hidden, _ = _product(setting.case)
    ceilings: dict[str, float] = dict.fromkeys(["float32", native_precision(setting.device)], 0.0)
    timings: list[speed.Timing] = []
    for number in range(options.rounds):
        timings += speed.measure_round(setting, built, plan, number)
        for precision, best in ceilings.items():
            ceilings[precision] = max(best, matmul_ceiling(tokens, hidden, precision, setting.device))
    return timings, ceilings
