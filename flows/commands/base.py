"""What every command shares: the application, its two consoles, and the options that several take."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from flows.terminal import PlainConsole
from tlm.machine.runtime import Runtime

app = typer.Typer(
    name="tlm",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
console = PlainConsole()
errors = PlainConsole(stderr=True)


class Origin(StrEnum):
    local = "local"
    hub = "hub"


def _studies(incomplete: str) -> list[str]:
    """What a shell offers where a study is to be named."""
    from flows.studies import STUDIES

    files = (str(path) for pattern in ("*.yaml", "*.yml") for path in Path().glob(pattern))
    return [name for name in (*STUDIES, *sorted(files)) if name.startswith(incomplete)]


StudyName = Annotated[
    str,
    typer.Argument(
        help="A named study (see `tlm studies`) or a YAML file of the same schema.", autocompletion=_studies
    ),
]
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


GROUPS = ("Begin", "Use what was trained", "Look into results", "Work elsewhere", "Keep house")
"""What commands are about, in the order in which somebody comes to it: the panels of `tlm --help`."""

Command = TypeVar("Command", bound=Callable[..., None])


def command(group: str, *examples: str, name: str | None = None) -> Callable[[Command], Command]:
    """Make a function a command of one of GROUPS; `examples` end its help, a line each."""
    assert group in GROUPS
    epilog = "\n  ".join(("[bold]Examples:[/bold]", *examples))
    return app.command(name, rich_help_panel=group, epilog=epilog)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"tlm {version('tlm')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Say which version this is, and end."),
    ] = False,
) -> None:
    """Pre-train, fine-tune and compare tiny language models. Start with: tlm run demo"""


def runtime(**given: object) -> Runtime:
    """The runtime of the environment and of a command's options. Raises UserError, also if its home does not answer."""
    found = Runtime.from_environment(**given)
    if not found.is_local:
        from tlm.artifacts.store import ArtifactStore

        ArtifactStore(found.artifacts).shelf.check_answers()
    return found
