"""What every command shares: the application, its two consoles, and the options that several take."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from flows.terminal import PlainConsole
from tlm.machine.runtime import Runtime

app = typer.Typer(
    name="tlm",
    help="Pre-train, fine-tune and compare tiny language models. Start with: tlm run demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
console = PlainConsole()
errors = PlainConsole(stderr=True)


class Origin(StrEnum):
    local = "local"
    hub = "hub"


StudyName = Annotated[str, typer.Argument(help="A named study (see `tlm studies`) or a YAML file of the same schema.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override a field, e.g. --set pretrain.epochs=5.")]
Reference = Annotated[
    bool, typer.Option("--reference-compat", help="Train as the paper's released code does: see docs/scales.md.")
]
ScaleName = Annotated[
    str | None, typer.Option("--scale", help="tiny (default), small or paper, for studies that have scales.")
]
SourceOrigin = Annotated[
    Origin | None,
    typer.Option("--origin", help="Read sources under TLM_DATA_ROOT or on the Hub (default: the scale's)."),
]
LimitSteps = Annotated[
    int | None, typer.Option("--limit-steps", min=1, help="A dry run: stop every training after so many steps.")
]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda; cuda without one is an error.")]
Workers = Annotated[int | None, typer.Option(help="Stages at once (default: the cores).")]
Threads = Annotated[int | None, typer.Option(help="CPU threads of each training process.")]
Home = Annotated[str | None, typer.Option(help="Where everything is written (TLM_HOME).")]
DataRoot = Annotated[str | None, typer.Option(help="Where source files are read (TLM_DATA_ROOT).")]


def example(*commands: str) -> str:
    """A command's epilogue."""
    return "[bold]Example:[/bold]  " + "   ".join(commands)


def runtime(**given: object) -> Runtime:
    """The runtime of the environment and of a command's options. Raises UserError."""
    return Runtime.from_environment(**given)
