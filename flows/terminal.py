"""The terminal: what is printed is data, whatever it is made of; markup is ours alone and is written as `Text`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from tlm.machine.interruption import closing
from tlm.machine.printing import printable

__all__ = ["PlainConsole", "on_terminal", "printable"]

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from rich.live import Live
    from rich.status import Status


class PlainConsole(Console):
    """A console on which `[bold]`, `[/pos]` and `:smile:` in a label, a path or an error are letters like all others, and
    control characters are spelled out.

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

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What was not spelled out before it was laid out is now, whoever made the `Text`."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))

    def status(self, status: Any, **options: Any) -> Status:
        return super().status(Text(status) if isinstance(status, str) else status, **options)


@contextmanager
def passing_line(text: str) -> Iterator[None]:
    """On a terminal, a line that is there for as long as the block runs. It needs no thread: Python may be ending."""
    if not on_terminal():
        yield
        return
    sys.stdout.write(f"{text} …")
    sys.stdout.flush()
    try:
        yield
    finally:
        sys.stdout.write("\r\x1b[K")
        sys.stdout.flush()


def on_terminal() -> bool:
    """Whether a person reads the output; a pipe gets CSV with all of it."""
    return sys.stdout.isatty()
