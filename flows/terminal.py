"""The terminal: what is printed is data, whatever it is made of; markup is ours alone and is written as `Text`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from tlm.machine.interruption import closing

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from rich.live import Live
    from rich.status import Status


class PlainConsole(Console):
    """A console on which `[bold]`, `[/pos]` and `:smile:` in a label, a path or an error are letters like all others.

    What moves on it (bars, spinners) stops when a signal ends the command, and the cursor is shown again.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "markup": False, "emoji": False})
        self._moving: list[AbstractContextManager[None]] = []

    def set_live(self, live: Live) -> bool:
        self._moving.append(closing(live.stop))
        self._moving[-1].__enter__()
        return super().set_live(live)

    def clear_live(self) -> None:
        super().clear_live()
        self._moving.pop().__exit__(None, None, None)

    def status(self, status: Any, **options: Any) -> Status:
        return super().status(Text(status) if isinstance(status, str) else status, **options)


def on_terminal() -> bool:
    """Whether a person reads the output; a pipe gets CSV with all of it."""
    return sys.stdout.isatty()


def printable(text: str) -> str:
    """The text without what a terminal obeys, or cannot show: control characters but line breaks and tabs, and halves of
    characters, are spelled out.
    """
    return "".join(_spelled_out(c) for c in text)


def _spelled_out(c: str) -> str:
    if "\ud800" <= c <= "\udfff":
        return f"\\u{ord(c):04x}"
    return f"\\x{ord(c):02x}" if c not in "\n\t" and (c < " " or "\x7f" <= c <= "\x9f") else c
