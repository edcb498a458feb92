"""The commands of `tlm`, by what they are about. Prefect and MLflow are imported only by those that run studies."""

from typer.models import CommandInfo

from flows.commands import artifacts, studies, tracking, tuning, workers
from flows.commands.base import GROUPS, app, errors

__all__ = ["app", "artifacts", "errors", "studies", "tracking", "tuning", "workers"]

FIRST = ("run", "plan", "studies", "show", "predict", "sql", "submit", "deploy", "verify")
"""Commands that come first in their group."""


def _place(made: CommandInfo) -> tuple[int, int]:
    name = made.name or made.callback.__name__  # type: ignore[union-attr]
    return GROUPS.index(str(made.rich_help_panel)), FIRST.index(name) if name in FIRST else len(FIRST)


app.registered_commands.sort(key=_place)
