"""The command line: `tlm` and `python -m flows.cli`."""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from io import TextIOWrapper

from tlm.machine import interruption


def program() -> None:
    """The command `tlm`: `main`, in a process that does nothing else, and that a signal ends in one line."""
    interruption.run(_alone)


def _alone() -> None:
    import_module("flows.commands")
    gc.freeze()  # what importing made stays to the end: searching it for garbage is a tenth of a short command
    main()


def main() -> None:
    """Run a command: a user's error, or a file's, is one line and exit code 2; with --debug its traceback too."""
    from rich.text import Text

    from flows.commands import app, errors
    from flows.terminal import printable
    from tlm.errors import UserError
    from tlm.machine.file_errors import file_error

    for stream in (sys.stdout, sys.stderr):  # a name in foreign bytes is spelled out: printing never fails
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except Exception as error:
        told = error if isinstance(error, UserError) else file_error(error)
        if told is None or "--debug" in sys.argv:
            raise
        errors.print(Text.assemble(("error:", "red"), f" {printable(str(told))}"), highlight=False, soft_wrap=True)
        del told
    else:
        return
    # Not inside `except`: an error that is alive when Python ends keeps a query's connection, and DuckDB says so.
    sys.exit(2)


if __name__ == "__main__":
    program()
