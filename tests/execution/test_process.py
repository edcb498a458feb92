"""A child process says what it is asked, and how it ended if it does not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tlm.errors import BatchTooLarge, UserError
from tlm.execution.process import Child, StageFailed, stop_all
from tlm.machine.runtime import Runtime

CHILD = """
import os, sys, time
from tlm.errors import BatchTooLarge, UserError
from tlm.execution.process import talk_to_parent

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
"""


@contextmanager
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, timeout: float | None = None) -> Iterator[Child]:
    (tmp_path / "obedient.py").write_text(CHILD, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Child("obedient", "stage/slug", Runtime(threads=3), timeout=timeout) as started:
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
            with pytest.raises(StageFailed, match=": stopped$"):
                asked.hear()
