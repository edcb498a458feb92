"""Groups of processes that do not outlive the process which started them.

A `Guard` is a process beside them. It reads from a pipe that ends with its parent, even by kill -9, and then ends them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from contextlib import suppress

from tlm.machine.interruption import deaf

TERM_SECONDS = 10.0
"""How long a group has to end before it is killed."""


class Guard:
    """Starts commands, each in a group of its own, and ends them with all that they have started."""

    def __init__(self) -> None:
        with deaf():
            self._process = subprocess.Popen([sys.executable, "-m", "tasks.guard"], stdin=subprocess.PIPE, text=True)

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Its output goes nowhere, its errors where this process's go."""
        started = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        self._tell(f"+{started.pid}")
        return started

    def end(self, *commands: subprocess.Popen[bytes]) -> None:
        """End what was started, and what that has started, whether it runs or has died and left them behind."""
        end_groups([command.pid for command in commands], reap=commands)
        for command in commands:
            self._tell(f"-{command.pid}")

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()


def end_groups(groups: Collection[int], reap: Collection[subprocess.Popen[bytes]] = ()) -> None:
    """SIGTERM for every process of these groups, and SIGKILL for those that are there after TERM_SECONDS.

    Args:
        reap: children of this process among them, which would stay in their groups until somebody asks how they ended.
    """
    deadline = time.monotonic() + TERM_SECONDS
    left = _signal(groups, signal.SIGTERM)
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        for child in reap:
            child.poll()
        left = _signal(left, 0)
    _signal(left, signal.SIGKILL)
    for child in reap:
        child.wait()


def _signal(groups: Collection[int], number: int) -> list[int]:
    """Those of the groups that have a process to send it to."""
    there = []
    for group in groups:
        with suppress(ProcessLookupError, PermissionError):  # the latter on macOS, if all that is left has ended
            os.killpg(group, number)
            there.append(group)
    return there


def main() -> None:
    """The guard: `+1234` on standard input is a group to end once it is over, `-1234` one that has ended."""
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        groups = groups | {group} if line.startswith("+") else groups - {group}
    end_groups(groups)


if __name__ == "__main__":
    main()
