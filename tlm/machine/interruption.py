"""How a signal ends a command: what is open is closed, one line says so, and the process is gone.

Ctrl-C, SIGTERM and a terminal that hangs up are one thing here. The command works in a thread of its own while the main
thread waits, so that no signal ever raises in the middle of a library, where it would be swallowed, or shown as an error.
Nothing is unwound: what is open is closed by what was named to `closing`, or it ends with this process, as children do
(`tlm.execution.process`). Whatever else is half done is as after kill -9, which harms nothing that is finished.
"""

from __future__ import annotations

import contextvars
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeVar

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CLOSING_SECONDS = 12.0
"""How long each thing that is open has to close."""
HEEDING_SECONDS = 0.5
"""How long a signal may go unheeded."""

_open: list[Callable[[], object]] = []
_litter: list[Path] = []
_lines = ["interrupted."]
_ending = threading.Event()


@contextmanager
def deaf() -> Iterator[None]:
    """Processes started inside get no signal that ends a command: what is blocked here stays blocked in them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run(work: Callable[[], T], *, code: int | None = None) -> T:
    """Return what `work` returns, or raise what it raises; a signal ends the process with exit code 128 + its number.

    A second signal does so at once. Signals that this process was started to ignore (nohup, a shell's background job) stay
    ignored. The others stay with this module until the process ends: Python's own end is no better place for an exception.

    Args:
        code: another exit code, for what nothing but a signal ends.
    """
    result: list[T] = []
    raised: list[BaseException] = []

    def body() -> None:
        try:
            result.append(work())
        except BaseException as error:
            raised.append(error)

    worker = threading.Thread(target=contextvars.copy_context().run, args=(body,), daemon=True)
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, partial(_end, code))
    worker.start()
    while worker.is_alive():
        # Not without an end: a signal just before the wait, or to another thread, does not interrupt it.
        worker.join(HEEDING_SECONDS)
    if raised:
        raise raised[0]
    return result[0]


@contextmanager
def closing(close: Callable[[], object]) -> Iterator[None]:
    """If a signal ends the process inside, `close` is called first (from another thread); what was named last, first."""
    _open.append(close)
    try:
        yield
    finally:
        _open.remove(close)


@contextmanager
def removing(path: Path) -> Iterator[None]:
    """If a signal ends the process inside, this file or folder is removed, after everything else."""
    _litter.append(path)
    try:
        yield
    finally:
        _litter.remove(path)


@contextmanager
def saying(line: str) -> Iterator[None]:
    """If a signal ends the process inside, this is what the user is told."""
    _lines.append(line)
    try:
        yield
    finally:
        _lines.remove(line)


def hold() -> None:
    """For whoever is about to open something: once a signal has come, this does not return."""
    if _ending.is_set():
        threading.Event().wait()


def _end(code: int | None, number: int, frame: FrameType | None) -> NoReturn:
    """The handler of signals. It runs in the main thread, which does nothing but wait."""
    if _ending.is_set():
        os._exit(128 + number)
    _ending.set()
    for close in (*reversed(_open), sys.stdout.flush):
        _call(close)
    with suppress(OSError):  # a terminal that is gone
        os.write(2, f"{_lines[-1]}\n".encode())  # whoever holds sys.stderr may be waiting for what we hold
    for path in tuple(_litter):
        _remove(path)
    os._exit(128 + number if code is None else code)


def _call(close: Callable[[], object]) -> None:
    """Call it from another thread, whatever it raises, and wait no longer than CLOSING_SECONDS."""

    def body() -> None:
        with suppress(Exception):
            close()

    closer = threading.Thread(target=body, daemon=True)
    closer.start()
    closer.join(CLOSING_SECONDS)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
