"""A nursery itself (`tlm.execution.nursery` is its parent's side): `python -m tlm.execution.forking SOCKET MODULE…` imports
the modules, then forks whenever it is asked. It has one thread, or a fork would lose what the others hold.

It is told {"fork": number, "module": name} along with the child's standard input, output and error, or {"kill": number}; it
says {"of": number, "pid": …} and {"of": number, "code": …}.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import random
import select
import signal
import socket
import sys
import traceback
import warnings
from contextlib import suppress
from typing import Any, NoReturn

MESSAGE_BYTES = 4_096
PR_SET_NAME = 15


def main() -> NoReturn:
    """Import, then fork whenever asked, until the parent is gone."""
    parent = socket.socket(fileno=int(sys.argv[1]))
    for module in sys.argv[2:]:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # a collection in a child would write to every page that it shares
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    numbers: dict[int, int] = {}
    wakes: list[Any] = [parent, woken]
    while True:
        ready, _, _ = select.select(wakes, [], [])
        if woken in ready:
            with suppress(BlockingIOError):
                os.read(woken, MESSAGE_BYTES)
            _tell_who_ended(parent, numbers)
        if parent in ready:
            received, pipes, _, _ = socket.recv_fds(parent, MESSAGE_BYTES, 3)
            if not received:
                os._exit(0)
            match json.loads(received):
                case {"fork": number, "module": module}:
                    pid = _fork(parent, number, pipes)
                    if pid == 0:
                        for each in (parent.fileno(), woken, wake):
                            os.close(each)
                        _become(module, pipes)
                    if pid is not None:
                        numbers[pid] = number
                case {"kill": number}:
                    for pid in [pid for pid, its in numbers.items() if its == number]:
                        os.kill(pid, signal.SIGKILL)  # not reaped yet, so that the number is still its own
            for pipe in pipes:
                os.close(pipe)


def _fork(parent: socket.socket, number: int, pipes: list[int]) -> int | None:
    """0 in the child, its number here; None, and the parent told, if the machine has no room for another process."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # jemalloc, which Arrow brings, has a thread that it forks itself
            pid = os.fork()
    except OSError as error:
        os.write(pipes[2], f"cannot begin another process: {error}\n".encode())
        _tell(parent, of=number, code=1)
        return None
    if pid:
        _tell(parent, of=number, pid=pid)
    return pid


def _tell(parent: socket.socket, **message: Any) -> None:
    with suppress(BrokenPipeError):
        parent.send(json.dumps(message).encode())


def _tell_who_ended(parent: socket.socket, numbers: dict[int, int]) -> None:
    while numbers:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        _tell(parent, of=numbers.pop(pid), code=os.waitstatus_to_exitcode(status))


def _become(module: str, pipes: list[int]) -> NoReturn:
    """In the child: run the module and end."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for pipe, number in zip(pipes, range(3), strict=True):
            os.dup2(pipe, number)
            os.close(pipe)
        ctypes.CDLL(None).prctl(PR_SET_NAME, f"tlm-{module.rpartition('.')[2]}".encode())
        _seed_what_nobody_seeded()
        sys.argv = [module]
        importlib.import_module(module).main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _seed_what_nobody_seeded() -> None:
    """As in a new process: what is drawn without a seed differs from child to child."""
    import numpy as np

    random.seed()
    np.random.seed()


if __name__ == "__main__":
    main()
