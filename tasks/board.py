"""Where progress of running stages is shown: by default the log, on a terminal the command line's live bars."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Literal, Protocol

from tlm.artifacts.step import ArtifactRef

LOG_EVERY_SECONDS = 30.0

End = Literal["done", "found", "stopped", "failed"]
"""How a step may end; found: it was there already, or another run has just made it."""


class Board(Protocol):
    def open(self, ref: ArtifactRef) -> Callable[[int, int], None]:
        """A step begins: return what it calls with (done, total)."""
        ...

    def note(self, ref: ArtifactRef, note: str) -> None:
        """What its stage notes about an artifact that was made (`Stage.notes`)."""

    def close(self, ref: ArtifactRef, end: End) -> None: ...

    def doing(self, what: str) -> None:
        """What is still to be done once the steps are made: `what` is under way."""

    def say(self, text: str) -> None:
        """A line that is no step's: what is waited for, what went wrong beside the work."""
        ...


class LogBoard:
    """A line in the log of the task's run now and then: for workers, whose output is read later, and for Prefect's UI."""

    def open(self, ref: ArtifactRef) -> Callable[[int, int], None]:
        logger = _run_logger()  # any other logger of a worker is kept below the level that Prefect sets
        last = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last >= LOG_EVERY_SECONDS:
                last = time.monotonic()
                logger.info("%s: %d of %d (%.0f %%)", ref, done, total, 100 * done / max(1, total))

        return report

    def note(self, ref: ArtifactRef, note: str) -> None:
        _run_logger().info("%s: %s", ref, note)

    def close(self, ref: ArtifactRef, end: End) -> None:
        return None

    def doing(self, what: str) -> None:
        logging.getLogger("tlm").info("%s", what)

    def say(self, text: str) -> None:
        logging.getLogger("tlm").warning("%s", text)


def _run_logger() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    from prefect import get_run_logger  # takes seconds, and who only says a line needs it not

    return get_run_logger()


_board: Board = LogBoard()


def current() -> Board:
    return _board


def use(board: Board) -> None:
    """Show progress on `board` from now on, in this process."""
    global _board
    _board = board
