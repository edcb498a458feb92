"""Whatever is printed is data, never markup: labels, paths, errors and names come from outside."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
import yaml
from helpers import command_line, mini_tree, python, write_csv, write_mini_data
from hypothesis import given
from hypothesis import strategies as st
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

import flows
from flows import running
from flows.commands import base
from flows.running import BarBoard, Clock
from flows.terminal import PlainConsole, printable
from tlm.artifacts.step import ArtifactRef

HOSTILE = ["[/pos] x", "[neg]", "[bold]b[/bold]", "[/]", ":smile:", "[link=x]y[/link]", "\\[x]"]
SOURCES = sorted(Path(flows.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_console_prints_every_text_as_it_is(text: str) -> None:
    out = io.StringIO()
    console = PlainConsole(file=out, width=100, force_terminal=True, color_system=None)
    console.print(text)
    table = Table(text, title=f"title {text}", caption=f"caption {text}", expand=True)
    table.add_row(text)
    console.print(table)
    with console.status(text):
        pass
    assert out.getvalue().count(text) >= 6


def test_no_control_character_reaches_the_terminal_whoever_laid_it_out() -> None:
    out, text = io.StringIO(), "\x1b]0;title\x07 \x1b[2J \x9b31m"
    console = PlainConsole(file=out, width=200)
    table = Table(text, title=text)
    table.add_row(text)
    for each in (text, Text(text), table):
        console.print(each)
    assert printable(out.getvalue()) == out.getvalue()
    assert out.getvalue().count("\\x1b[2J") == 5


@pytest.mark.parametrize("text", HOSTILE)
def test_an_error_is_printed_as_it_is(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TLM_HOME", str(tmp_path))
    tlm = command_line(monkeypatch, capsys)
    for arguments in (["show", text], ["invalidate", text], ["import", text]):
        said = tlm(*arguments)
        assert said.code == 2 and said.err.startswith("error: "), said
        assert text in said.err.replace("\\\\", "\\") and said.err.count("\n") == 1


def test_an_error_obeys_nothing_that_it_quotes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TLM_HOME", str(tmp_path))
    said = command_line(monkeypatch, capsys)("import", "a\x1b[2Jb")
    assert said.err.startswith("error: a\\x1b[2Jb is not a folder")


@pytest.mark.parametrize("label", ["[/pos] x\ny", "[neg] <b>a|b</b>"])
def test_a_label_in_an_error_is_printed_as_it_is(
    label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write_mini_data(tmp_path / "raw")
    rows = [(f"text number {n}", label if n % 2 else "other") for n in range(48)]
    write_csv(raw / "task.csv", ["text", "label"], rows)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(mini_tree()))
    monkeypatch.setenv("TLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TLM_DATA_ROOT", str(raw))
    tlm = command_line(monkeypatch, capsys)
    said = tlm("run", str(tmp_path / "study.yaml"), "--set", "tasks.topics.test_per_label=100")
    assert said.code == 2 and said.err.count("\n") == 1
    assert f"task topics: label {label!r} has 24" in said.err


def test_every_console_of_the_commands_is_a_plain_one_and_nothing_is_read_as_markup() -> None:
    assert isinstance(base.console, PlainConsole) and isinstance(base.errors, PlainConsole)
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        if path.name != "terminal.py":
            assert not re.search(r"(?<!Plain)Console\(|markup=True|from_markup|rich\.print\b", text), path
            assert not re.search(r"status\.update\((?!Text\()", text), path
        for column in re.findall(r"TextColumn\(.*?\)", text):
            assert "markup=False" in column, path


def test_a_bar_is_named_as_the_stage_is() -> None:
    out = io.StringIO()
    console = PlainConsole(file=out, width=100)
    ref = ArtifactRef(stage="pretrain", slug="one", key="0" * 64)
    board = BarBoard(Progress(console=console, disable=True), console, [ref.key])
    board.open(ref)
    board.close(ref, "failed")
    assert out.getvalue().startswith("failed pretrain/one (")


def test_what_a_stage_notes_stays_on_the_terminal_as_data() -> None:
    out = io.StringIO()
    console = PlainConsole(file=out, width=20)
    ref = ArtifactRef(stage="tokens", slug="files-x", key="0" * 64)
    BarBoard(Progress(console=console, disable=True), console, [ref.key]).note(ref, "[bold]x[/bold] \x1b[2J is unknown")
    assert out.getvalue() == "tokens/files-x: [bold]x[/bold] \\x1b[2J is unknown.\n"


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_the_bar_of_a_study_counts_what_was_to_do_and_nothing_else(order: tuple[int, ...]) -> None:
    """Prefect may look at a step that was made long ago, if its own cache is gone."""
    progress = Progress(console=PlainConsole(file=io.StringIO()))
    refs = [ArtifactRef(stage="corpus", slug=f"ws{n}", key=str(n) * 64) for n in range(4)]
    board = BarBoard(progress, progress.console, [refs[0].key, refs[1].key])
    counted = []
    for n in order:
        board.open(refs[n])
        board.close(refs[n], "done" if n < 2 else "found")
        counted.append(progress.tasks[board.study].completed)
    assert progress.tasks[board.study].total == 2
    assert counted == [sum(n < 2 for n in order[: place + 1]) for place in range(4)]


@pytest.mark.parametrize(
    "show", ["console.status('busy')", "Progress(console=console)", "track(range(9), console=console)"]
)
def test_what_moves_on_the_terminal_stops_when_a_signal_ends_the_command(show: str) -> None:
    code = f"""
import io, os, signal, threading
from rich.progress import Progress, track
from flows.terminal import PlainConsole
from tlm.machine.interruption import closing, run

out = io.StringIO()
console = PlainConsole(file=out, force_terminal=True)
def shown_again():
    said = out.getvalue()
    print(said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l"))
def work():
    with closing(shown_again):
        shown = {show}
        with shown if hasattr(shown, "__enter__") else closing(lambda: None):
            next(iter(shown), None) if hasattr(shown, "__next__") else None
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait()
run(work)
"""
    done = python(code)
    assert (done.returncode, done.stdout, done.stderr) == (143, "True\n", "interrupted.\n")


def test_what_a_terminal_obeys_is_spelled_out() -> None:
    assert printable("a\x1b[2Jb\x07\x9bc\td\ne ü 字") == "a\\x1b[2Jb\\x07\\x9bc\td\ne ü 字"


@given(st.lists(st.floats(0, 1_000), min_size=1, max_size=6))
def test_the_seconds_of_the_parts_add_up_to_those_in_all(parts: list[float]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        now = 5.0
        patch.setattr(running.time, "monotonic", lambda: now)
        clock = Clock()
        for number, seconds in enumerate(parts):
            now += seconds
            clock.lap(f"part {number}")
    said = [int(found) for found in re.findall(r"(\d+) s", str(clock))]
    assert said[0] == sum(said[1:]) and abs(said[0] - sum(parts)) <= 0.5 + 1e-6
    assert all(abs(shown - seconds) <= 1 + 1e-6 for (shown, _), seconds in zip(clock.laps, parts, strict=True))


def test_the_bar_of_a_study_says_what_is_done_after_its_last_step() -> None:
    progress = Progress(console=PlainConsole(file=io.StringIO()))
    board = BarBoard(progress, progress.console, [])
    board.doing("bringing the catalogue up to date")
    assert progress.tasks[board.study].description == "bringing the catalogue up to date"
