"""The terminal: what is printed is data, whatever it is made of; markup is ours alone and is written as `Text`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from rich.status import Status


class PlainConsole(Console):
    """A console on which `[bold]`, `[/pos]` and `:smile:` in a label, a path or an error are letters like all others."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "markup": False, "emoji": False})

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
