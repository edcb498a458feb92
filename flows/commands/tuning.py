"""The command `tlm tune`."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.base import (
    DataRoot,
    Device,
    Home,
    ScaleName,
    Set,
    SourceOrigin,
    Threads,
    Workers,
    command,
    console,
    runtime,
)
from tlm.errors import UserError

UNITS = {"s": 1, "m": 60, "h": 3_600}


@command(
    "Begin",
    "tlm tune demo --over pretrain.mlm_probability=float:0.1:0.5 --over finetune.epochs=int:4:16 --trials 30",
    "tlm tune my_tuning.yaml --budget 2h --out my_tuning.json",
)
def tune(
    study: Annotated[
        str, typer.Argument(help="A named study, a study's YAML file, or a tuning study's: docs/tuning.md.")
    ],
    over: Annotated[
        list[str] | None,
        typer.Option(
            "--over",
            metavar="FIELD=SPACE",
            help="A field, as for --set, and its space: log:LOW:HIGH, float:LOW:HIGH, int:LOW:HIGH[:STEP], "
            "logint:LOW:HIGH or choice:A,B,C.",
        ),
    ] = None,
    set_: Set = None,
    scale: ScaleName = None,
    origin: SourceOrigin = None,
    arm: Annotated[
        list[str] | None,
        typer.Option("--arm", help="What counts: pretrained (default), scratch, svd, distilled; repeatable."),
    ] = None,
    task: Annotated[list[str] | None, typer.Option("--task", help="What counts (default: all tasks).")] = None,
    architecture: Annotated[
        list[str] | None, typer.Option("--architecture", help="What counts (default: all architectures).")
    ] = None,
    ws: Annotated[list[int] | None, typer.Option("--ws", help="What counts (default: the largest Ws).")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Trials in all (default: the file's, or 20).")] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Stop after about 90s, 45m or 2h; the same command goes on.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of what is drawn (default: the file's, or 0).")] = None,
    at_once: Annotated[int | None, typer.Option(min=1, help="Trials drawn together and run side by side.")] = None,
    name: Annotated[str | None, typer.Option(help="What the search is called (default: as the study).")] = None,
    out: Annotated[Path | None, typer.Option(help="A .json or .parquet file for the result.")] = None,
    device: Device = None,
    workers: Workers = None,
    threads: Threads = None,
    home: Home = None,
    data_root: DataRoot = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and Prefect's log.")] = False,
) -> None:
    """Search for the hyperparameters of a study that are best by dev accuracy. No test item is looked at."""
    from flows.loading import parse_set
    from flows.tuning import load_tuning
    from flows.tuning_run import tune_in_terminal
    from tlm.tuning.space import parse_over

    objective = {"arms": arm, "tasks": task, "architectures": architecture, "ws": ws}
    tuning = load_tuning(
        study,
        runtime(home=home, data_root=data_root, device=device, workers=workers, threads=threads),
        over=dict(parse_over(each) for each in over or ()),
        set_=dict(parse_set(each) for each in set_ or ()),
        objective={field: tuple(value) for field, value in objective.items() if value},
        name=name,
        scale=scale,
        origin=origin,
        trials=trials,
        seed=seed,
        at_once=at_once,
    )
    tune_in_terminal(tuning, console, seconds=math.inf if budget is None else _seconds(budget), out=out, debug=debug)


def _seconds(budget: str) -> float:
    """Seconds of `90s`, `45m` or `2h`. Raises UserError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", budget)
    if found is None or float(found[1]) <= 0:
        raise UserError(f"--budget {budget!r} is no time.", "Write 90s, 45m or 2h.")
    return float(found[1]) * UNITS[found[2]]
