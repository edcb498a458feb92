"""Children that are forked by a process which has imported what they need, instead of importing it each for itself.

Before its first step a training process imports torch, transformers and pandas, for some five seconds of a core, and a
study has hundreds of such processes. A nursery imports them once. It has one thread, touches no GPU and does nothing but
fork: each child gets ends of pipes from whoever asked for it, runs its module's `main`, and is otherwise as `python -m
module`.
The nursery ends when its parent does; a child ends, as any does, when its input does.

One nursery at a time is kept, of the environment that children were last wanted with.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from typing import IO, Any

from tlm.execution.forking import MESSAGE_BYTES
from tlm.machine.interruption import deaf

FORKED = {"tlm.execution.child", "tlm.cost.calibration", "tlm.cost.precision"}
"""Modules whose children come from a nursery, where there can be one; each has a `main`."""
IMPORTED = ("tlm.execution.child", "tlm.training.pretrain", "tlm.training.finetune", "tlm.cost.measure", "pandas")

_lock = threading.Lock()
_newest: _Nursery | None = None


def can_fork() -> bool:
    """Elsewhere than on Linux, libraries do not survive a fork, or there is none."""
    return sys.platform == "linux"


class Forked:
    """A child of a nursery, with what is needed of subprocess.Popen's methods. Its pipes are text."""

    def __init__(self, nursery: _Nursery, number: int, stdin: IO[str], stdout: IO[str]) -> None:
        self.stdin, self.stdout = stdin, stdout
        self._nursery, self._number = nursery, number
        self._pid: int | None = None
        self._handle: int | None = None
        self._code: int | None = None
        self._begun, self._ended = threading.Event(), threading.Event()

    @property
    def pid(self) -> int:
        """Waits until there is one. Raises RuntimeError if there will be none."""
        self._begun.wait()
        if self._pid is None:
            raise RuntimeError("this process was never begun")
        return self._pid

    def poll(self) -> int | None:
        """Its exit code, -N for a signal N, or None while it runs."""
        return self._code if self._ended.is_set() else None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code once it has ended. Raises subprocess.TimeoutExpired."""
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired("a forked child", timeout or 0.0)
        assert self._code is not None
        return self._code

    def kill(self) -> None:
        """Whether it has begun or not. By its parent, which alone knows that the number is still its own."""
        self._nursery.say(kill=self._number)

    def communicate(self) -> None:
        """Close its pipes and wait for its end."""
        for pipe in (self.stdin, self.stdout):
            with suppress(OSError):  # what it was not told yet finds nobody
                pipe.close()
        self.wait()

    def begins(self, pid: int) -> None:
        self._pid = pid
        with suppress(OSError):  # it has ended already
            self._handle = os.pidfd_open(pid)
        self._begun.set()

    def ends(self, code: int) -> None:
        """Nobody else will say of it what becomes of it: if it has not ended yet, it does now."""
        if self._handle is not None:
            with suppress(OSError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            os.close(self._handle)
        self._code = code
        self._begun.set()
        self._ended.set()


def fork(module: str, environment: dict[str, str], stderr: IO[str]) -> Forked:
    """Have `module.main()` run in a forked child with such an environment; returns at once."""
    global _newest
    with _lock:
        if _newest is None or not _newest.serves(environment):
            if _newest is not None:
                _newest.retire()
            _newest = _Nursery(environment)
        return _newest.fork(module, stderr)


class _Nursery:
    """The nursery from its parent's side. A thread of the parent's hears from it."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._printed = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 – closed when it has ended
        self._children: dict[int, tuple[Forked, IO[str]]] = {}
        self._made = 0
        self._retired = False
        self._last: tuple[int, str] | None = None
        with theirs, deaf():
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tlm.execution.forking", str(theirs.fileno()), *IMPORTED],
                stdin=subprocess.DEVNULL,
                stdout=self._printed,
                stderr=self._printed,
                env=environment,
                pass_fds=[theirs.fileno()],
            )
        self._mutex = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    def serves(self, environment: dict[str, str]) -> bool:
        return self._last is None and self._process.poll() is None and environment == self._environment

    def fork(self, module: str, stderr: IO[str]) -> Forked:
        inward, outward = os.pipe(), os.pipe()
        child = Forked(
            self, self._made, os.fdopen(inward[1], "w", encoding="utf-8"), os.fdopen(outward[0], encoding="utf-8")
        )
        with self._mutex:
            self._children[self._made] = (child, stderr)
            message = json.dumps({"fork": self._made, "module": module}).encode()
            self._made += 1
            with suppress(OSError):  # it is gone, which `_listen` tells all its children
                socket.send_fds(self._socket, [message], [inward[0], outward[1], stderr.fileno()])
            self._give_up()
        os.close(inward[0])
        os.close(outward[1])
        return child

    def say(self, **message: Any) -> None:
        with suppress(OSError):
            self._socket.send(json.dumps(message).encode())

    def retire(self) -> None:
        """Fork no more; end with the last child."""
        with self._mutex:
            self._retired = True
            if not self._children:
                self._hang_up()

    def end(self) -> None:
        self._hang_up()
        self._process.wait()

    def _hang_up(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        while received := self._receive():
            message = json.loads(received)
            with self._mutex:
                child, _ = self._children[message["of"]]
                if "pid" in message:
                    child.begins(message["pid"])
                    continue
                del self._children[message["of"]]
                if self._retired and not self._children:
                    self._hang_up()
            child.ends(message["code"])
        self._hang_up()
        code = self._process.wait()
        with self._mutex:
            self._printed.seek(0)
            self._last = code or 1, self._printed.read()
            self._printed.close()
            self._give_up()
        self._socket.close()

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(MESSAGE_BYTES)
        except OSError:
            return b""

    def _give_up(self) -> None:
        """Once it has ended, its children do, those that never began too; what it printed is theirs to show."""
        if self._last is None:
            return
        code, text = self._last
        for child, stderr in self._children.values():
            stderr.write(text)
            stderr.flush()
            child.ends(code)
        self._children.clear()


@atexit.register
def _end_the_newest() -> None:
    if _newest is not None:
        _newest.end()
