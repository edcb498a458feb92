"""Servers end with all that they have started, whether they die, are stopped, or lose the process that started them."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from helpers import python_environment

SERVER = """
import os, subprocess, sys, time
children = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) for _ in range(3)]
print(*(child.pid for child in children), os.getpid(), file=open(sys.argv[1] + ".part", "w"), flush=True)
os.rename(sys.argv[1] + ".part", sys.argv[1])
time.sleep(600)
"""
HOLDER = """
import os, sys, time
from tasks.guard import Guard
guard = Guard()
server = guard.start([sys.executable, "-c", {server!r}, {place!r}])
while not os.path.exists({place!r}):
    time.sleep(0.01)
print("ready", flush=True)
sys.stdin.readline()
{then}
"""


def family(place: Path) -> list[psutil.Process]:
    return [psutil.Process(int(number)) for number in place.read_text().split()]


def holder(place: Path, then: str, server: str = SERVER) -> subprocess.Popen[str]:
    """A process that has started a server, and does what comes `then` once it is told to go on."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER.format(server=server, place=str(place), then=then)],
        env=python_environment(),
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def go_on(process: subprocess.Popen[str]) -> str:
    """Let it, and return the next line that it prints."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline()


def expect_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=60)
    for process in alive:
        process.kill()
    assert not alive


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_ends_with_the_process_that_started_it_however_that_ends(number: int, tmp_path: Path) -> None:
    process = holder(tmp_path / "pids", "time.sleep(600)")
    those = family(tmp_path / "pids") + psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    process.communicate()
    expect_gone(those)


@pytest.mark.parametrize("first", ["", "server.kill(); server.wait()"])
def test_what_a_server_has_started_ends_with_it_even_if_it_has_died(first: str, tmp_path: Path) -> None:
    process = holder(tmp_path / "pids", f"{first}\nguard.end(server); print('ended', flush=True); sys.stdin.read()")
    those = family(tmp_path / "pids")
    assert go_on(process) == "ended\n"
    assert not [each for each in those if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    process.communicate()


def test_a_server_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    stubborn = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SERVER}"
    end = "import tasks.guard; tasks.guard.TERM_SECONDS = 0.3; guard.end(server); print('ended', flush=True)"
    process = holder(tmp_path / "pids", end, stubborn)
    those = family(tmp_path / "pids")
    assert go_on(process) == "ended\n"
    process.communicate()
    expect_gone(those)
