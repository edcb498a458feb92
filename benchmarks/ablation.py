"""What each part of the engine buys: tlm's training with one part taken back at a time (`python -m benchmarks.ablation`).

Every variant does the same useful work on the same batches, in one process, taking turns with the whole engine.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any
from unittest.mock import patch

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.cases import CASES
from benchmarks.options import Out, Threads, Workloads, results_folder
from tlm.errors import UserError

if TYPE_CHECKING:
    from benchmarks.ours import Ours
    from benchmarks.setting import Setting
    from tlm.training.loop import Inputs

console = Console()
DEFAULT_CASES = ["pretrain-bert6-768", "pretrain-bert1-768", "finetune-bert6-few_rel", "pretrain-bert6-128"]
WHOLE = "the whole engine"


@contextmanager
def float32(ours: Ours) -> Iterator[None]:
    """Products in float32."""
    with patch.object(ours, "precision", "float32"):
        yield


@contextmanager
def padded(ours: Ours) -> Iterator[None]:
    """One rectangle a batch, as long as its longest sequence."""
    from tlm.modeling.packing import padder

    with patch.object(ours, "pack", padder()):
        yield


@contextmanager
def every_position(ours: Ours) -> Iterator[None]:
    """The last layer and the vocabulary's projection at every token, as the padded loop has them at every position."""
    import torch
    from torch.nn import functional as F

    from tlm.modeling.layout import Queries
    from tlm.modeling.loss import IGNORED_LABEL

    whole = ours._inputs

    def inputs(step: int, rows: Any) -> Inputs:
        given: dict[str, Any] = {**whole(step, rows)}
        if "queries" not in given:
            return given
        labels_R = torch.full((len(given["ids_R"]),), IGNORED_LABEL)
        labels_R[given["queries"].rows_N] = given["labels_N"]
        tokens_N = given["layout"].real_R.nonzero().squeeze(1)
        return {**given, "queries": Queries.of(given["layout"], tokens_N), "labels_N": labels_R[tokens_N]}

    def loss(ids_R: Any, layout: Any, queries: Any, labels_N: Any) -> Any:
        return F.cross_entropy(ours.model.logits(ids_R, layout, queries).float(), labels_N, ignore_index=IGNORED_LABEL)

    pretrains = ours.case.objective == "pretrain"
    with patch.object(ours, "_inputs", inputs), patch.object(ours.model, "loss", loss) if pretrains else nullcontext():
        yield


@contextmanager
def stock_cross_entropy(ours: Ours) -> Iterator[None]:
    """torch's linear and cross_entropy over the predicted positions."""
    from torch.nn import functional as F

    def plain(x_ND: Any, weight_VD: Any, bias_V: Any, labels_N: Any) -> Any:
        return F.cross_entropy(F.linear(x_ND, weight_VD, bias_V), labels_N)

    with patch("tlm.modeling.heads.linear_cross_entropy", plain):
        yield


@contextmanager
def stock_attention(ours: Ours) -> Iterator[None]:
    """torch's scaled_dot_product_attention, and its dropout of the weights."""
    from tlm.modeling import attention

    with patch.object(attention, "written_out", lambda device: False):
        yield


@contextmanager
def unfused_adamw(ours: Ours) -> Iterator[None]:
    """torch's default AdamW."""
    import torch

    adamw = torch.optim.AdamW

    def plain(*given: Any, fused: bool, **more: Any) -> Any:
        return adamw(*given, **more)

    with patch.object(torch.optim, "AdamW", plain):
        yield


ABLATIONS: dict[str, Callable[[Any], AbstractContextManager[None]]] = {
    "float32 products": float32,
    "padding to the longest": padded,
    "every position predicted": every_position,
    "torch's cross entropy": stock_cross_entropy,
    "torch's attention": stock_attention,
    "AdamW not fused": unfused_adamw,
}


def main(
    case: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(CASES)}; repeatable.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, in each of which every variant has its turn.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.0, help="About how long a turn of the whole engine lasts.")] = 5.0,
    threads: Threads = None,
    out: Out = None,
    workloads: Workloads = None,
) -> None:
    """Take back one part of the engine at a time: seconds without it, over seconds with all."""
    threads = threads or machine.available_cores()
    machine.restart_in(machine.environment(threads), "benchmarks.ablation")
    out = results_folder(out)
    try:
        found = measure(case or DEFAULT_CASES, out, workloads, rounds, seconds, threads)
    except UserError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None
    show(found)


def measure(
    names: list[str], out: Path, workloads: Path | None, rounds: int, seconds: float, threads: int
) -> dict[str, dict[str, float]]:
    """Slowdowns by case and variant, saved after each case. UserError for an unknown case or missing data."""
    unknown = [name for name in names if name not in CASES]
    if unknown:
        raise UserError(f"Unknown case {', '.join(unknown)}.", f"Choose from {', '.join(CASES)}.")
    import torch

    from benchmarks.comparison import prepare_workloads
    from benchmarks.setting import Setting
    from benchmarks.workload import load

    torch.set_num_threads(threads)
    cases = [CASES[name] for name in names]
    folders = prepare_workloads(cases, workloads, out, console)
    found: dict[str, dict[str, float]] = {}
    for case in cases:
        setting = Setting.of(case, load(folders[case.workload]), "cpu")
        found[case.name] = slowdowns(setting, rounds, seconds)
        save(out, found, machine.facts("cpu", threads))
    return found


def slowdowns(setting: Setting, rounds: int, seconds: float) -> dict[str, float]:
    """Median over rounds of each variant's time over that of the whole engine in the same round."""
    from benchmarks.contenders import OURS, build
    from benchmarks.speed import timed

    ours: Any = build(OURS, setting)
    variants: dict[str, Callable[[Any], AbstractContextManager[None]]] = {WHOLE: lambda _: nullcontext(), **ABLATIONS}

    def turn(name: str, start: int, count: int) -> float:
        batches = setting.workload.batches(start, count, setting.case.batch_size)
        with variants[name](ours):
            return timed(ours.prepare(batches, 1), setting.device)

    for name in variants:
        turn(name, 0, 1)  # warm up
    count = max(2, round(seconds / (turn(WHOLE, 0, 2) / 2)))
    console.print(f"{setting.case.name}: {count} steps a turn")
    times = [{name: turn(name, number * count, count) for name in variants} for number in range(rounds)]
    return {name: median(found[name] / found[WHOLE] for found in times) for name in variants}


def lines(found: Mapping[str, Mapping[str, float]]) -> tuple[list[str], list[list[str]]]:
    """Headings, and a row for each variant."""
    rows = [[name, *(f"{each[name]:.2f}" for each in found.values())] for name in (WHOLE, *ABLATIONS)]
    return ["Time without it ÷ with all", *found], rows


def save(out: Path, found: Mapping[str, Mapping[str, float]], facts: Mapping[str, str]) -> None:
    """ablation.md"""
    headings, rows = lines(found)
    table = ["| " + " | ".join(row) + " |" for row in (headings, ["---", *["--:"] * len(found)], *rows)]
    out.mkdir(parents=True, exist_ok=True)
    notes = [f"- {name}: {value}" for name, value in facts.items()]
    (out / "ablation.md").write_text("\n".join([*table, "", *notes, ""]), encoding="utf-8")


def show(found: Mapping[str, Mapping[str, float]]) -> None:
    headings, rows = lines(found)
    table = Table(*headings)
    for row in rows:
        table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
