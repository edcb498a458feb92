"""A child process says what it is asked, and how it ended if it does not."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import python

from tlm.errors import BatchTooLarge, UserError
from tlm.execution import nursery
from tlm.execution.process import Child, StageFailed, StageStopped, is_cancellation, stop_all
from tlm.machine.interruption import SIGNALS
from tlm.machine.runtime import Runtime

CHILD = """
import os, subprocess, sys, time
from tlm.errors import BatchTooLarge, UserError
from tlm.execution.process import talk_to_parent

def main():
    with talk_to_parent() as parent:
        while True:
            match parent.hear():
                case {"square": number}:
                    print("what a library prints")
                    parent.say(square=number ** 2, threads=os.environ["OMP_NUM_THREADS"])
                case {"do": "fail"}:
                    raise UserError("a problem.", "A way out.")
                case {"do": "burst"}:
                    raise BatchTooLarge("too large.", items=7)
                case {"do": "crash"}:
                    {}["nothing"]
                case {"do": "exit"}:
                    print("last words \\N{SNOWMAN}")
                    os._exit(3)
                case {"do": "cut"}:
                    os.write(parent._answers.fileno(), b'{"half": ')
                    os._exit(4)
                case {"do": "sleep"}:
                    time.sleep(600)
                case {"import": modules}:
                    parent.say(files=[__import__(module).__file__ for module in modules])
                case {"run": code}:
                    parent.say(printed=subprocess.run([sys.executable, *code], capture_output=True, text=True).stdout)

if __name__ == "__main__":
    main()
"""

SHADOWS = (
    "random",
    "json",
    "logging",
    "tempfile",
    "sitecustomize",
    "typing_extensions",
    "numpy",
    "torch",
    "tlm",
    "tasks",
)
"""What a user may call a script of their own."""


@pytest.fixture(params=["started", "forked"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How children come into being; whichever it is, they behave alike."""
    if request.param == "forked":
        if not nursery.can_fork():
            pytest.skip("processes are not forked here")
        monkeypatch.setattr(nursery, "IMPORTED", ())
        monkeypatch.setattr(nursery, "FORKED", {"obedient"})
        monkeypatch.setattr("tlm.execution.process.FORKED", {"obedient"})
    return str(request.param)


@contextmanager
def child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, timeout: float | None = None, path: str = "", works: bool = True
) -> Iterator[Child]:
    (tmp_path / "obedient.py").write_text(CHILD, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", f"{path}{os.pathsep}{tmp_path}" if path else str(tmp_path))
    with Child("obedient", "stage/slug", Runtime(threads=3), timeout=timeout, works=works) as started:
        yield started


def test_a_child_answers_each_message_whatever_is_printed_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with child(tmp_path, monkeypatch) as asked:
        for number in (3, 4):
            asked.say(square=number)
            assert asked.hear() == {"square": number**2, "threads": "3"}
    assert asked.process.poll() is not None, "it outlived its block"


def test_what_the_child_raises_is_raised_in_the_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with child(tmp_path, monkeypatch) as asked, pytest.raises(UserError) as raised:
        asked.say(do="fail")
        asked.hear()
    assert (raised.value.problem, raised.value.remedy) == ("a problem.", "A way out.")
    with child(tmp_path, monkeypatch) as asked, pytest.raises(BatchTooLarge) as burst:
        asked.say(do="burst")
        asked.hear()
    assert burst.value.items == 7
    with child(tmp_path, monkeypatch) as asked, pytest.raises(StageFailed, match="stage/slug: KeyError: 'nothing'\nTr"):
        asked.say(do="crash")
        asked.hear()


@pytest.mark.parametrize(("end", "how"), [("exit", "code 3\n(?s:.*)last words ☃$"), ("cut", "code 4$")])
def test_a_child_that_ends_leaves_its_code_and_its_last_lines(
    end: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with child(tmp_path, monkeypatch) as asked:
        asked.say(do=end)
        with pytest.raises(StageFailed, match=f"stage/slug: its process ended with {how}"):
            asked.hear()
        asked.say(square=3)  # nobody is there: no error, until an answer is asked for
        with pytest.raises(StageFailed, match="its process ended"):
            asked.hear()


def test_a_child_past_its_time_out_is_killed_and_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with child(tmp_path, monkeypatch, timeout=0.2) as asked:
        asked.say(do="sleep")
        with pytest.raises(StageFailed, match="stage/slug: stopped after stage_timeout=0.2 seconds"):
            asked.hear()


def test_all_children_can_be_stopped_from_another_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with child(tmp_path, monkeypatch) as first, child(tmp_path, monkeypatch) as second:
        for asked in (first, second):
            asked.say(do="sleep")
        threading.Timer(0.1, stop_all).start()
        for asked in (first, second):
            with pytest.raises(StageStopped, match=": stopped$"):
                asked.hear()


def test_a_signal_to_the_whole_group_is_the_parents_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with child(tmp_path, monkeypatch) as asked:
        for number in SIGNALS:
            os.kill(asked.process.pid, number)
        asked.say(square=3)
        assert asked.hear()["square"] == 9


@pytest.mark.parametrize("path", ["", os.pathsep, f"/nowhere{os.pathsep}{os.pathsep}"])
def test_nothing_is_imported_from_the_folder_where_the_user_stands(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by a child, nor by what it starts in its turn."""
    (tmp_path / "user").mkdir()
    for name in SHADOWS:
        (tmp_path / "user" / f"{name}.py").write_text("raise SystemExit('the user's own')")
    monkeypatch.chdir(tmp_path / "user")
    with child(tmp_path, monkeypatch, path=path) as asked:
        asked.say(**{"import": ["random", "json", "logging", "tempfile", "tlm", "tasks"]})
        assert not [file for file in asked.hear()["files"] if file.startswith(str(tmp_path))]
        for code in (["-c", "import random; print(random.__file__)"], ["-m", "random"]):
            asked.say(run=code)
            printed = asked.hear()["printed"]
            assert printed and str(tmp_path) not in printed and "own" not in printed


@pytest.mark.parametrize("module", ["tlm.sequential", "flows.cli"])
def test_nor_by_a_module_that_is_run_there(module: str, tmp_path: Path) -> None:
    for name in ("random", "json", "logging", "tempfile", "typer"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the user's own')")
    done = python(["-m", module, "--help"], cwd=tmp_path)
    assert done.returncode == 0 and "usage" in done.stdout.lower(), done.stderr


def test_a_child_that_serves_is_not_stopped_with_those_that_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with child(tmp_path, monkeypatch, works=False) as serving, child(tmp_path, monkeypatch) as working:
        working.say(do="sleep")
        stop_all()
        with pytest.raises(StageStopped):
            working.hear()
        serving.say(square=3)
        assert serving.hear()["square"] == 9


def test_a_cancellation_is_told_from_a_failure() -> None:
    cancelled = [StageStopped(""), KeyboardInterrupt(), SystemExit(143)]
    failed = [StageFailed(""), UserError(""), ValueError(), OSError()]
    assert [is_cancellation(error) for error in (*cancelled, *failed)] == [True] * 3 + [False] * 4
