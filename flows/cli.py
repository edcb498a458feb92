"""The command line: `tlm` and `python -m flows.cli`."""

from __future__ import annotations

import gc
import sys

from rich.text import Text

from flows.commands import artifacts, studies, tuning
from flows.commands.base import app, errors
from flows.terminal import printable
from tlm.errors import UserError

__all__ = ["app", "artifacts", "main", "program", "studies", "tuning"]


def program() -> None:
    """The command `tlm`: `main`, in a process that does nothing else."""
    gc.freeze()  # what importing made stays to the end: searching it for garbage is a tenth of a short command
    main()


def main() -> None:
    """Run a command: a user's error is one line and exit code 2; with --debug its traceback too."""
    try:
        app()
    except UserError as error:
        if "--debug" in sys.argv:
            raise
        errors.print(Text.assemble(("error:", "red"), f" {printable(str(error))}"), highlight=False, soft_wrap=True)
        sys.exit(2)


if __name__ == "__main__":
    program()
