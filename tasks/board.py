"""Where progress of running stages is shown: by default the log, on a terminal the command line's live bars."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from tlm.artifacts.step import ArtifactRef

LOG_EVERY_SECONDS = 30.0


class Board(Protocol):
    def open(self, ref: ArtifactRef) -> Callable[[int, int], None]:
        """A step begins: return what it calls with (done, total)."""
        ...

    def close(self, ref: ArtifactRef, ok: bool) -> None: ...


class LogBoard:
    """A line of log now and then: for workers, whose output is read later."""

    def __init__(self, logger: logging.Logger | logging.LoggerAdapter[logging.Logger] | None = None) -> None:
        self.logger = logger or logging.getLogger("tlm")

    def open(self, ref: ArtifactRef) -> Callable[[int, int], None]:
        last = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last >= LOG_EVERY_SECONDS:
                last = time.monotonic()
                self.logger.info("%s: %d of %d (%.0f %%)", ref, done, total, 100 * done / max(1, total))

        return report

    def close(self, ref: ArtifactRef, ok: bool) -> None:
        return None


_board: Board = LogBoard()


def current() -> Board:
    return _board


def use(board: Board) -> None:
    """Show progress on `board` from now on, in this process."""
    global _board
    _board = board
