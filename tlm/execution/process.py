"""Child processes that are told what to do and answer in lines of JSON; what they say is up to those who use them.

A child can be timed out and killed, has its own threads and allocators, keeps whatever its libraries print away from its
answers, and dies with its parent: it reads from a pipe that ends however the parent does, on any system. It is deaf to
Ctrl-C and SIGTERM, which may be sent to a whole group of processes: what becomes of it is the parent's to say. It imports
nothing that lies in the folder where the user stands. The parent holds a `Child`:

    with Child("tlm.some.module", "what it does", runtime) as child:
        child.say(number=3)
        child.hear()                      # {"square": 9}, or the error that the child raised

and the module's `main` a `Parent` (where it can, the child is forked by a process that has imported torch already:
`tlm.execution.nursery`):

    with talk_to_parent() as parent:
        parent.say(square=parent.hear()["number"] ** 2)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import Any

from tlm.errors import BatchTooLarge, UserError
from tlm.execution.nursery import FORKED, Forked, can_fork, fork
from tlm.machine.allocator import ALLOCATORS
from tlm.machine.file_errors import file_error
from tlm.machine.interruption import deaf
from tlm.machine.runtime import PACKAGE_PARENT, SAFE_PATH, Runtime

Message = dict[str, Any]

LAST_LINES = 15
"""Of what a child printed, how many lines are shown if it dies."""

_living: set[Child] = set()


class StageFailed(RuntimeError):
    """A child process ended without a result."""


class StageStopped(StageFailed):
    """A child process was ended by `stop_all`: cancelled, not failed."""


def is_cancellation(error: BaseException) -> bool:
    """Whether it comes from someone who wants the work to end (Ctrl-C, SIGTERM, `stop_all`), not from the work."""
    return isinstance(error, StageStopped) or not isinstance(error, Exception)


class Child:
    """A process that runs `python -m module`, from the parent's side. As a context manager, it does not outlive its block.

    Args:
        name: what its errors begin with.
        timeout: seconds after which it is killed (None: never).
        works: whether `stop_all` ends it.
        files: descriptors that it inherits.
    """

    def __init__(
        self,
        module: str,
        name: str,
        runtime: Runtime,
        *,
        timeout: float | None = None,
        works: bool = True,
        files: Collection[int] = (),
    ) -> None:
        self.name = name
        self.timeout = timeout
        self._printed = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 – closed by __exit__
        self.process = self._start(module, runtime, files)
        if works:
            _living.add(self)
        self._expired, self.stopped = threading.Event(), threading.Event()
        self._timer = threading.Timer(timeout or threading.TIMEOUT_MAX, self._expire)
        self._timer.daemon = True
        self._timer.start()

    def _start(self, module: str, runtime: Runtime, files: Collection[int]) -> subprocess.Popen[str] | Forked:
        environment = child_environment(runtime)
        if runtime.fork and module in FORKED and can_fork():
            return fork(module, environment, self._printed)
        with deaf():
            return subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._printed,
                text=True,
                env=environment,
                pass_fds=files,
            )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()
        self.process.kill()
        self.process.communicate()
        self._printed.close()
        _living.discard(self)

    def say(self, **message: Any) -> None:
        """Send a message. If the child is gone, `hear` says why."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def hear(self) -> Message:
        """Wait for the child's next message.

        Raises:
            UserError: as raised by the child.
            StageStopped: if `stop_all` ended it.
            StageFailed: if it raised another error, died or ran out of time.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.endswith("\n"):  # it is gone, killed as it wrote perhaps
            how = self._how_it_ended()
            raise StageStopped(how) if self.stopped.is_set() else StageFailed(how)
        message: Message = json.loads(line)
        match message:
            case {"batch_too_large": given}:
                raise BatchTooLarge(*given)
            case {"user_error": given}:
                raise UserError(*given)
            case {"error": text}:
                raise StageFailed(f"{self.name}: {text}")
        return message

    def _expire(self) -> None:
        self._expired.set()  # first, so that whoever sees the child gone also sees why
        self.process.kill()

    def _how_it_ended(self) -> str:
        code = self.process.wait()
        if self._expired.is_set():
            return f"{self.name}: stopped after stage_timeout={self.timeout} seconds"
        if self.stopped.is_set():
            return f"{self.name}: stopped"
        self._printed.seek(0)
        last = "".join(self._printed.readlines()[-LAST_LINES:]).strip()
        # At the limit, libraries that do not look at what malloc returns end with a segmentation fault.
        hint = " (out of memory? lower batch_size or workers)" if code in (-9, -11) else ""
        return f"{self.name}: its process ended with code {code}{hint}\n{last}".strip()


def stop_all() -> None:
    """Kill every child of this process that works: those who wait for an answer get StageStopped at once."""
    for child in tuple(_living):
        child.stopped.set()  # before it dies: its end is not to be blamed on the memory
        child.process.kill()


def child_environment(runtime: Runtime) -> dict[str, str]:
    """The environment of a child: this process's own, with the child's threads, allocators and path of packages."""
    # An empty entry (`:/my/lab`) is the current folder to Python, which SAFE_PATH alone leaves there.
    path = [str(PACKAGE_PARENT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    more = {**SAFE_PATH, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": str(runtime.threads)}
    return {**ALLOCATORS, **os.environ, **more}


class Parent:
    """The other end of a `Child`, in the child itself: once its messages end, so does this process."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)  # whatever a library prints must not mix with the answers
        self._messages: SimpleQueue[Message] = SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def say(self, **message: Any) -> None:
        self._answers.write(json.dumps(message) + "\n")

    def hear(self) -> Message:
        """Wait for the parent's next message."""
        return self._messages.get()

    def _listen(self) -> None:
        """Standard input ends when the parent does, even by kill -9; to work on for nobody would hold the machine."""
        rest = b""
        while received := os.read(0, 65_536):  # raw: a thread inside sys.stdin would block the interpreter's own exit
            *lines, rest = (rest + received).split(b"\n")
            for line in lines:
                self._messages.put(json.loads(line))
        os._exit(1)


@contextmanager
def talk_to_parent() -> Iterator[Parent]:
    """For a child's `main`: whatever is raised in the block is raised in the parent, by `Child.hear`."""
    parent = Parent()
    try:
        yield parent
    except BatchTooLarge as error:
        parent.say(batch_too_large=[error.problem, error.remedy, error.items])
    except Exception as error:
        told = error if isinstance(error, UserError) else file_error(error)
        if told is not None:
            parent.say(user_error=[told.problem, told.remedy])
            return
        parent.say(error=f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
