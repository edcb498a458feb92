"""Against double work: who makes a key says so in the object store, again and again while it lives.

A lease is a courtesy between machines. Whoever loses one, to a network that was away or a machine that slept, goes on: two
then make the same artifact, and the first to publish it wins. No clocks are compared: one who waits sees whether the lease
changes.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from tlm.machine.repeating import repeated

BEAT_SECONDS = 10.0
LOST_SECONDS = 40.0
"""A lease that has not changed for so long is that of a machine that is gone."""
POLL_SECONDS = 1.0


class Objects(Protocol):
    """What a lease asks of an object store."""

    def create(self, path: str, content: bytes) -> bool: ...

    def read(self, path: str, limit: int) -> bytes: ...

    def write(self, path: str, content: bytes) -> None: ...

    def remove_file(self, path: str) -> None: ...


@contextmanager
def leased(objects: Objects, place: str, machine: str) -> Iterator[None]:
    """Hold the lease at `place`; wait for whoever holds it.

    Args:
        machine: names the locks of this machine. Its own lock of the key is held, so a lease of the same machine is that of
            a process that has died, and is taken over at once.
    """
    holder = uuid.uuid4().hex
    beat = 0

    def content() -> bytes:
        return json.dumps({"machine": machine, "holder": holder, "beat": beat}).encode()

    def is_ours() -> bool:
        return _holder(_seen(objects, place)) == holder

    _acquire(objects, place, machine, content())

    def live() -> None:
        nonlocal beat
        with suppress(OSError):  # it is away for a while
            if is_ours():
                beat += 1
                objects.write(place, content())

    try:
        with repeated(live, BEAT_SECONDS, "lease"):
            yield
    finally:
        with suppress(OSError):
            if is_ours():
                objects.remove_file(place)


def _acquire(objects: Objects, place: str, machine: str, content: bytes) -> None:
    last, since = b"", time.monotonic()
    while not objects.create(place, content):
        there = _seen(objects, place)
        if _field(there, "machine") == machine:
            objects.write(place, content)
            return
        if there != last:
            last, since = there, time.monotonic()
        elif time.monotonic() - since > LOST_SECONDS:
            objects.remove_file(place)
            continue
        time.sleep(POLL_SECONDS)


def machine_of(locks: Path) -> str:
    """A name for the machine that these locks are of."""
    path = locks / "machine"
    locks.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        draft = locks / f"machine-{uuid.uuid4().hex}"
        draft.write_text(draft.name)
        with suppress(FileExistsError):
            os.link(draft, path)  # whole, or not at all
        draft.unlink()
    return path.read_text()


def _seen(objects: Objects, place: str) -> bytes:
    try:
        return objects.read(place, 10_000)
    except FileNotFoundError:
        return b""


def _holder(content: bytes) -> str:
    return _field(content, "holder")


def _field(content: bytes, name: str) -> str:
    try:
        return str(json.loads(content)[name])
    except (ValueError, KeyError, TypeError):
        return ""
