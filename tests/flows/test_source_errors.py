"""`tlm run` on data that cannot be read: one line with file and place, before any work and with nothing written."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from helpers import Tlm, command_line, mini_tree, write_mini_data

from flows import study as flow
from flows.loading import load_study
from tlm.machine.runtime import Runtime
from tlm.planning.plan import plan

ROWS = [{"text": f"text {n} about the {label}", "label": label} for n in range(12) for label in ("sea", "land")]


@pytest.fixture
def tlm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tlm:
    """A command line beside a data root, for a study whose task is in task.jsonl or task.csv."""
    monkeypatch.setenv("TLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TLM_DATA_ROOT", str(write_mini_data(tmp_path / "data")))
    monkeypatch.chdir(tmp_path)
    return command_line(monkeypatch, capsys)


def study(form: str, **changes: Any) -> str:
    tree = mini_tree(**changes)
    source = {"kind": "files", "format": form, "path": f"task.{form}", "label_column": "label"}
    tree["tasks"][0]["source"] = source
    Path("study.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return "study.yaml"


def csv_of(rows: list[dict[str, str]]) -> str:
    return "text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in rows)


def jsonl_of(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


CSV, JSONL = csv_of(ROWS), jsonl_of(ROWS)
LATIN = CSV.replace("text 7", "caf\xe9").encode("latin-1")
CASES: list[tuple[str, bytes, str]] = [
    ("jsonl", jsonl_of([{**row, "label": "" if n % 3 == 0 else row["label"]} for n, row in enumerate(ROWS)]).encode(),
     "task.jsonl, line 1: the label is missing (and 7 more)."),
    ("csv", LATIN, f"task.csv, line 16: not UTF-8 (byte {LATIN.index(0xE9)} of the file)."),
    ("jsonl", JSONL.replace("text 5", "half \\ud83c").encode(),
     "task.jsonl, line 11: the text holds half a character (\\ud83c) (and 1 more)."),
    ("jsonl", JSONL.replace('"sea"', '"s\\udc00"').encode(), "the label holds half a character (\\udc00) (and 11 more)."),
    ("jsonl", (JSONL + '{"text": ' + "[" * 50_000).encode(), "task.jsonl, line 25: not valid JSON (nested too deeply)."),
    ("csv", b"text,label,text\na,b,c\n", "task.csv has two columns named 'text'."),
    ("tsv", CSV.encode(), "task.tsv has no column 'text', 'label'; it has 'text,label'."),
]  # fmt: skip


@pytest.mark.parametrize(("form", "content", "said"), CASES, ids=lambda value: str(value)[:20])
def test_what_cannot_be_read_is_said_on_one_line(tlm: Tlm, form: str, content: bytes, said: str) -> None:
    Path(f"data/task.{form}").write_bytes(content)
    found = tlm("run", study(form))
    assert found.code == 2 and found.out.endswith(": checking the study and its sources\n"), found
    assert found.out.count("\n") == 1
    assert found.err.startswith("error: ") and said in found.err and found.err.count("\n") == 1, found.err
    assert not Path("home").exists()


def test_numbers_beyond_64_bits_and_names_that_only_resemble_numbers_are_labels(tlm: Tlm) -> None:
    """As far as the plan: what a study asks for is compared with the items that there are."""
    names = {"sea": "--1", "land": str(2**70)}
    for form, content in (("csv", csv_of), ("jsonl", jsonl_of)):
        rows = [{**row, "label": names[row["label"]]} for row in ROWS]
        Path(f"data/task.{form}").write_text(content(rows), encoding="utf-8")
        found = tlm("run", study(form))
        assert found.code == 2 and "label '--1' has 12 all items, 22 needed" in found.err, found.err


def test_what_a_folder_of_texts_holds_beside_them_is_named_before_the_work(
    tlm: Tlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("data/books").mkdir()
    for name in ("a.txt", "b.md", "c.docx"):
        Path(f"data/books/{name}").write_text("One paragraph.\n\nAnother.\n")
    source = {"kind": "files", "format": "text", "path": "books"}
    Path("data/task.csv").write_text(CSV)
    found = tlm("plan", study("csv", corpus__source=source), "--no-time")
    assert found.code == 0 and "Not read: books/b.md, books/c.docx." in found.out
    logged: list[str] = []  # by a worker, in the log of the study's run
    monkeypatch.setattr(flow, "check", lambda study, runtime, **_: plan(study, runtime.data_root))
    monkeypatch.setattr(flow, "get_run_logger", lambda: SimpleNamespace(info=logged.append))
    monkeypatch.setattr(flow, "run_checked", lambda *given: None)
    flow.run_and_show(load_study("study.yaml"), Runtime.from_environment())
    assert logged == ["Not read: books/b.md, books/c.docx."]
