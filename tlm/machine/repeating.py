"""Something that is done again and again, in a thread of its own, for as long as a block runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeated(action: Callable[[], object], seconds: float, name: str) -> Iterator[None]:
    """Call `action` every so many seconds until the block ends; then wait for a call that is under way.

    Args:
        action: what it raises ends the repetition, not the block.
        name: of the thread.
    """
    over = threading.Event()

    def follow() -> None:
        while not over.wait(seconds):
            action()

    thread = threading.Thread(target=follow, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
