"""Throughput of training and evaluation against stock transformers: `python -m benchmarks.throughput` (`make bench`)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.cases import CASES
from benchmarks.options import Out, Threads, Workloads, results_folder
from tlm.errors import UserError

# What imports torch is imported after the restart in an environment of its own: see `main`.


class Device(StrEnum):
    cpu = "cpu"
    cuda = "cuda"


def main(
    case: Annotated[
        list[str] | None, typer.Option(help=f"One of {', '.join(CASES)}; repeatable. Default: all.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, in each of which every contender has its turn.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.1, help="About how long a turn lasts.")] = 15.0,
    threads: Threads = None,
    device: Annotated[Device, typer.Option(help="Where to train and evaluate.")] = Device.cpu,
    memory: Annotated[bool, typer.Option(help="Measure peak memory too, each contender in its own process.")] = True,
    out: Out = None,
    workloads: Workloads = None,
) -> None:
    """Compare stock transformers, its Trainer and tlm on the same tokens, in one process; write table and CSV."""
    threads = threads or machine.available_cores()
    machine.restart_in(machine.environment(threads), "benchmarks.throughput")
    out = results_folder(out)
    try:
        _run(case or list(CASES), out, workloads, rounds, seconds, threads, device.value, memory)
    except UserError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None


def _run(
    names: Sequence[str],
    out: Path,
    workloads: Path | None,
    rounds: int,
    seconds: float,
    threads: int,
    device: str,
    memory: bool,
) -> None:
    unknown = [name for name in names if name not in CASES]
    if unknown:
        raise UserError(f"Unknown case {', '.join(unknown)}.", f"Choose from {', '.join(CASES)}.")
    from benchmarks.comparison import Options, compare, prepare_workloads

    options = Options(out, rounds, seconds, threads, device, memory)
    cases = [CASES[name] for name in dict.fromkeys(names)]
    console = Console(width=None if sys.stdout.isatty() else 150)  # a file has no width, and the table is wide
    compare(cases, prepare_workloads(cases, workloads, out, console), options, console)


if __name__ == "__main__":
    typer.run(main)
