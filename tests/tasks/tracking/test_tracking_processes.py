"""A study's note is held as long as its process lives, and is left to others when it dies."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from helpers import python_environment

from tasks.tracking import processes

HOLDER = """
import sys, time
from pathlib import Path
from tasks.tracking import processes
print(processes.begin(Path(sys.argv[1]), {"uri": "x"}), flush=True)
time.sleep(600)
"""


def test_a_note_of_this_process_is_alive_until_it_is_ended(tmp_path: Path) -> None:
    name = processes.begin(tmp_path, {"uri": "x"})
    assert processes.is_here(tmp_path, name) and processes.is_alive(tmp_path, name)
    assert list(processes.left_behind(tmp_path)) == []
    processes.end(tmp_path, name)
    assert processes.is_alive(tmp_path, name) is None and not processes.is_here(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_note_that_is_released_is_left_to_whoever_comes_first(tmp_path: Path) -> None:
    name = processes.begin(tmp_path, {"uri": "x"})
    processes.amend(tmp_path, name, {"uri": "y"})
    processes.release(tmp_path, name)
    assert processes.is_alive(tmp_path, name) is False
    found = []
    for left, note in processes.left_behind(tmp_path):
        assert list(processes.left_behind(tmp_path)) == [], "two processes settle one note"
        found.append((left, note))
    assert found == [(name, {"uri": "y"})]
    assert list(processes.left_behind(tmp_path)) == found, "whoever settles it ends it"
    processes.end(tmp_path, name)
    assert list(processes.left_behind(tmp_path)) == []


def test_a_note_whose_process_was_killed_is_left_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=python_environment(), text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert processes.is_alive(tmp_path, name) is True
        assert list(processes.left_behind(tmp_path)) == []
        process.send_signal(signal.SIGKILL)
    assert processes.is_alive(tmp_path, name) is False
    assert list(processes.left_behind(tmp_path)) == [(name, {"uri": "x"})]


def test_a_note_that_a_crash_cut_short_is_still_settled(tmp_path: Path) -> None:
    name = processes.begin(tmp_path, {})
    processes.release(tmp_path, name)
    (tmp_path / f"{name}.json").write_text('{"uri": ')
    assert list(processes.left_behind(tmp_path)) == [(name, {})]


def test_a_name_from_elsewhere_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "outside.json").write_text("{}")
    folder = tmp_path / "processes"
    folder.mkdir()
    assert processes.is_alive(folder, "../outside") is None
