"""A signal ends a command in one line, whatever it is doing: what is open is closed, and nothing raises anywhere."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import python, python_environment

BEGIN = """
import os, signal, sys, threading, time
from pathlib import Path
from tlm.machine import interruption
from tlm.machine.interruption import closing, hold, removing, run, saying

def ready():
    print("ready", flush=True)
"""
WAITING = """
def work():
    ready()
    while True:
        time.sleep(0.01)
"""
GUARDED = """
def work():
    first, second = (lambda name=name: print("closed", name, flush=True) for name in ("first", "second"))
    try:
        with closing(first), closing(second), closing(lambda: 1 / 0):
            with saying("no longer said"):
                pass
            with saying("stopped. Go on."):
                ready()
                while True:
                    try:
                        sum(range(1000))
                    except BaseException:  # a library that swallows all there is
                        pass
    finally:
        print("unwound")
"""


@contextmanager
def started(work: str, end: str = "run(work)", setup: str = "") -> Iterator[subprocess.Popen[str]]:
    """A process that is in the middle of `work`."""
    process = subprocess.Popen(
        [sys.executable, "-c", "\n".join((setup, BEGIN, work, end))],
        env=python_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_closes_what_is_open_says_one_line_and_exits_with_its_number(number: signal.Signals) -> None:
    heeded = "signal.signal(signal.SIGINT, signal.default_int_handler); signal.signal(signal.SIGHUP, signal.SIG_DFL)"
    with started(GUARDED, setup=f"import signal; {heeded}") as process:  # whatever the shell of these tests ignores
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (128 + number, "stopped. Go on.\n")
    assert out == "closed second\nclosed first\n"


def test_a_signal_is_heeded_though_another_thread_than_the_one_that_waits_was_interrupted() -> None:
    work = (
        "def work():\n    ready()\n    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)\n    time.sleep(600)"
    )
    with started(work) as process:
        assert process.wait(60) == 143


@pytest.mark.parametrize("patience", ["time.sleep(600)", "threading.Event().wait()"])
def test_what_takes_too_long_to_close_is_not_waited_for(patience: str) -> None:
    work = f"def work():\n    with closing(lambda: {patience}):\n        ready(); time.sleep(600)"
    with started(work, end="interruption.CLOSING_SECONDS = 0.2; run(work)") as process:
        process.terminate()
        assert process.wait(60) == 143


def test_a_second_signal_ends_it_at_once() -> None:
    work = "def work():\n    with closing(lambda: (ready(), time.sleep(600))):\n        ready(); time.sleep(600)"
    with started(work) as process:
        process.terminate()
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (143, "")


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_what_was_ignored_stays_ignored(name: str) -> None:
    with started(WAITING, setup=f"import signal; signal.signal(signal.{name}, signal.SIG_IGN)") as process:
        process.send_signal(getattr(signal, name))
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.terminate()
        assert process.wait(60) == 143


def test_pythons_own_end_is_no_place_for_a_traceback_either() -> None:
    late = "import atexit; atexit.register(lambda: (ready(), time.sleep(600)))\ndef work():\n    return 1"
    with started(late, setup="import signal; signal.signal(signal.SIGINT, signal.default_int_handler)") as process:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "interrupted.\n")


def test_what_a_command_leaves_about_is_removed_last(tmp_path: Path) -> None:
    (tmp_path / "draft").mkdir()
    for name in ("file", "draft/part"):
        (tmp_path / name).write_text("half")
    work = f"""
def work():
    folder = Path({str(tmp_path)!r})
    with removing(folder / "file"), removing(folder / "draft"), removing(folder / "never made"):
        with closing(lambda: print(sorted(os.listdir(folder)), flush=True)):
            ready(); time.sleep(600)
"""
    with started(work) as process:
        process.terminate()
        out, _ = process.communicate(timeout=60)
    assert out == "['draft', 'file']\n" and list(tmp_path.iterdir()) == []


def test_nothing_new_is_opened_once_a_signal_has_come() -> None:
    work = """
def work():
    with closing(lambda: time.sleep(0.5)):
        ready()
        while not interruption._ending.is_set():
            time.sleep(0.01)
        hold()
        print("opened", flush=True)
"""
    with started(work) as process:
        process.terminate()
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (143, "")


def test_without_a_signal_it_is_as_if_the_work_were_called() -> None:
    code = """
def fail():
    raise ValueError("as it is")
assert run(lambda: 3) == 3
try:
    run(fail)
except ValueError as error:
    assert str(error) == "as it is"
run(lambda: sys.exit(5))
"""
    done = python(BEGIN + code)
    assert (done.returncode, done.stderr) == (5, "")


def test_servers_are_stopped_by_a_signal_without_an_error() -> None:
    with started(WAITING, end="run(work, code=0)") as process:
        process.terminate()
        assert process.wait(60) == 0
