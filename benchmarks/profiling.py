"""Where a training step's time goes, by kind of operation: `python -m benchmarks.profiling`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.cases import CASES
from benchmarks.options import Out, Threads, Workloads, results_folder
from tlm.errors import UserError

console = Console()
DEFAULT_CASES = ["pretrain-bert6-768", "pretrain-bert1-768", "pretrain-bert1b-768", "pretrain-bert6-128"]
KINDS: dict[str, tuple[str, ...]] = {
    "matrix products": ("mm", "addmm", "baddbmm", "linear"),
    "attention's products": ("bmm",),
    "convolutions": ("mkldnn_convolution", "convolution_backward"),
    "copies and casts": ("copy_", "cat", "fill_", "zero_", "index_select", "index_copy_", "index_fill_"),
    "random bits": ("random_",),
    "softmax and loss": ("_softmax", "_softmax_backward_data", "_log_softmax", "exp_", "nll_loss_forward"),
    "normalisation": (
        "native_layer_norm",
        "native_layer_norm_backward",
        "native_batch_norm",
        "native_batch_norm_backward",
        "batch_norm_update_stats",
    ),
    "GELU": ("gelu", "gelu_backward"),
    "AdamW": ("_fused_adamw_",),
}
"""torch's names of operations, without "aten::"."""
OTHER = "everything else, calls included"


def main(
    case: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(CASES)}; repeatable.")] = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="About how long to profile.")] = 6.0,
    threads: Threads = None,
    out: Out = None,
    workloads: Workloads = None,
) -> None:
    """Share of the time that each kind of operation takes in tlm's own training."""
    threads = threads or machine.available_cores()
    machine.restart_in(machine.environment(threads), "benchmarks.profiling")
    out = results_folder(out)
    names = case or DEFAULT_CASES
    try:
        unknown = [name for name in names if name not in CASES]
        if unknown:
            raise UserError(f"Unknown case {', '.join(unknown)}.", f"Choose from {', '.join(CASES)}.")
        found = {name: shares(name, seconds, threads, out, workloads) for name in names}
    except UserError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None
    text = markdown(found)
    out.mkdir(parents=True, exist_ok=True)
    (out / "profile.md").write_text(text, encoding="utf-8")
    console.print(text, highlight=False, soft_wrap=True)


def shares(name: str, seconds: float, threads: int, out: Path, workloads: Path | None) -> dict[str, float]:
    """Kind of operation → share of the wall time of some steps after the first few."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from benchmarks.comparison import prepare_workloads
    from benchmarks.contenders import OURS, build
    from benchmarks.setting import Setting
    from benchmarks.speed import timed
    from benchmarks.workload import load

    torch.set_num_threads(threads)
    case = CASES[name]
    folder = prepare_workloads([case], workloads, out, console)[case.workload]
    setting = Setting.of(case, load(folder), "cpu")
    ours = build(OURS, setting)
    timed(ours.prepare(setting.workload.batches(0, 2, case.batch_size), 1), "cpu")
    each = timed(ours.prepare(setting.workload.batches(0, 2, case.batch_size), 1), "cpu") / 2
    work = ours.prepare(setting.workload.batches(0, max(2, round(seconds / each)), case.batch_size), 1)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        wall = timed(work, "cpu")
    own = {event.key.removeprefix("aten::"): event.self_cpu_time_total / 1e6 for event in profiler.key_averages()}
    found = {kind: sum(own.get(operation, 0.0) for operation in names) / wall for kind, names in KINDS.items()}
    return {**found, OTHER: 1 - sum(found.values())}


def markdown(found: Mapping[str, Mapping[str, float]]) -> str:
    rows = [["Share of the time", *found], ["---", *["--:"] * len(found)]]
    rows += [[kind, *(f"{100 * each[kind]:.0f} %" for each in found.values())] for kind in (*KINDS, OTHER)]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


if __name__ == "__main__":
    typer.run(main)
