"""A file of a moment that shows what a store does with it, or who sees it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from tlm.machine.interruption import closing

PROBE = ".probe-"
"""What its name begins with, at the store's root. One that was left by a process that was killed is garbage."""


class Place(Protocol):
    """What a probe asks of a store's place."""

    root: str

    def remove_file(self, path: str) -> None: ...


@contextmanager
def probe(place: Place) -> Iterator[str]:
    """The path of a file that nobody else writes; it is gone when the block ends, whatever ends it but kill -9."""
    path = f"{place.root}/{PROBE}{uuid.uuid4().hex}"

    def remove() -> None:
        with suppress(OSError):  # `tlm gc` will
            place.remove_file(path)

    with closing(remove):
        try:
            yield path
        finally:
            remove()
