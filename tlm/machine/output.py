"""Standard output and standard error of a process whose reader may die before it does."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

OUTPUT = (1, 2)
"""Standard output and standard error."""
AT_ONCE = 1 << 16
"""Bytes that are read at once."""


@contextmanager
def outliving_its_reader(descriptors: Sequence[int] = OUTPUT) -> Iterator[None]:
    """Inside, what is written to `descriptors` goes to whom it went before, and nowhere once nobody reads it there.

    Who wrote there directly would get BrokenPipeError, of which Rich makes SystemExit. So this process and those it starts
    write into pipes that a thread empties.
    """
    forwards = {made.source: made for made in map(_Forward, descriptors)}
    over, end = os.pipe()
    thread = threading.Thread(target=_forward_all, args=(forwards, over), name="output", daemon=True)
    thread.start()
    try:
        yield
    finally:
        _put_back(forwards.values())
        os.close(end)
        thread.join()
        _put_back(forwards.values())  # again: what was still in the pipes may have shown that a reader is gone
        for descriptor in (over, *forwards, *(forward.target for forward in forwards.values())):
            os.close(descriptor)


def _put_back(forwards: Iterable[_Forward]) -> None:
    for forward in forwards:
        os.dup2(forward.target, forward.descriptor)


class _Forward:
    """A descriptor that leads into a pipe now: the pipe's other end, and where the descriptor led before."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self.target = descriptor, os.dup(descriptor)
        self.source, write = os.pipe()
        os.dup2(write, descriptor)
        os.close(write)

    def pass_on(self) -> bool:
        """What is in the pipe. False if nobody is left who could write into it."""
        rest = given = os.read(self.source, AT_ONCE)
        try:
            while rest:
                rest = rest[os.write(self.target, rest) :]
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.target)
            os.close(nowhere)
        return bool(given)


def _forward_all(forwards: Mapping[int, _Forward], over: int) -> None:
    """Until the other end of `over` is closed, and then what is still there."""
    readers = select.poll()
    for descriptor in (over, *forwards):
        readers.register(descriptor, select.POLLIN)
    wait: int | None = None
    while ready := readers.poll(wait):
        for descriptor, _ in ready:
            if descriptor == over:
                wait = 0
            if descriptor == over or not forwards[descriptor].pass_on():
                readers.unregister(descriptor)
