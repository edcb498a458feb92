"""`tlm predict`: which files and pipes are read and as what, and CSV that a spreadsheet opens."""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
from pathlib import Path
from typing import BinaryIO

import pandas as pd
import pytest
from helpers import Mini, Said, Tlm, command_line, write_csv

from tlm.inference import files
from tlm.inference import models as inference

MODEL = "finetune/topics-one-ws60-s0-p0-f0"
TEXTS = ["wave tide", "barn plough"]


@pytest.fixture
def tlm(mini: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tlm:
    """Run a command on the miniature study, in an empty folder."""
    monkeypatch.setenv("TLM_HOME", mini.runtime.home)
    monkeypatch.chdir(tmp_path)
    return command_line(monkeypatch, capsys)


def predicted(said: Said) -> list[str]:
    assert said.code == 0, said
    found = pd.read_csv(io.StringIO(said.out), keep_default_na=False, dtype=str)
    assert set(found["label"]) <= {"sea", "land"}
    return found["text"].tolist()


def refused(said: Said, *fragments: str) -> None:
    assert said.code == 2 and said.out == "", said
    assert said.err.startswith("error: ") and said.err.count("\n") == 1, said.err
    for fragment in fragments:
        assert fragment in said.err, said.err


def give(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Standard input is a pipe that brings this."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


# --- what a name says ---


def test_a_tsv_is_a_table(tlm: Tlm) -> None:
    Path("new.tsv").write_text(f"id\ttext\n1\t{TEXTS[0]}\n2\t{TEXTS[1]}\n", encoding="utf-8")
    assert predicted(tlm("predict", MODEL, "--file", "new.tsv")) == TEXTS
    assert predicted(tlm("predict", MODEL, "--file", "new.tsv", "--column", "id")) == ["1", "2"]


@pytest.mark.parametrize("name", ["new.json", "new.xlsx", "new.csv.gz", "new.md", "new", ".csv", "new.txt~"])
def test_a_file_whose_name_does_not_say_what_it_holds_is_refused(tlm: Tlm, cheap: None, name: str) -> None:
    content = b"text\nwave tide\n"
    Path(name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    refused(tlm("predict", MODEL, "--file", name), name, ".txt", ".csv", ".tsv", ".jsonl", ".parquet", "--format")


@pytest.mark.parametrize(("form", "content"), [("lines", "wave tide\n"), ("csv", "text\nwave tide\n")])
def test_it_is_read_once_the_format_is_said(tlm: Tlm, form: str, content: str) -> None:
    Path("new.dat").write_text(content)
    assert predicted(tlm("predict", MODEL, "--file", "new.dat", "--format", form)) == ["wave tide"]


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["--file", "new.dat", "--format", "xlsx"], ["--format: unknown 'xlsx'", "lines, csv, tsv, jsonl, parquet"]),
        (["--text", "x", "--format", "csv"], ["--format csv", "--file"]),
        (["--file", "new.txt", "--column", "body"], ["--column body: the texts have no columns", "--format"]),
        (["--file", "new.csv", "--format", "parquet"], ["new.csv: not a readable Parquet file"]),
        (["--file", "new.txt", "--out", "x.parquet", "--escape-formulas"], ["--escape-formulas: x.parquet is no CSV"]),
    ],
)
def test_options_that_do_not_fit_the_file_are_refused(
    tlm: Tlm, cheap: None, arguments: list[str], fragments: list[str]
) -> None:
    for name in ("new.dat", "new.txt", "new.csv"):
        Path(name).write_text("text\nwave tide\n")
    refused(tlm("predict", MODEL, *arguments), *fragments)
    assert not Path("x.parquet").exists()


# --- pipes ---


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_standard_input_brings_a_text_on_each_line(tlm: Tlm, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    give(monkeypatch, "\n".join(TEXTS).encode() + b"\n")
    assert predicted(tlm("predict", MODEL, "--file", name)) == TEXTS


def test_standard_input_brings_a_table_if_that_is_said(tlm: Tlm, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "".join(json.dumps({"body": text}) + "\n" for text in TEXTS)
    give(monkeypatch, lines.encode())
    assert predicted(tlm("predict", MODEL, "--file", "-", "--format", "jsonl", "--column", "body")) == TEXTS


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"", "standard input holds no text"),
        (b"one\n\nthree\n", "standard input, line 2: the text is empty"),
        ("one\n\u200b\u00ad\n".encode(), "standard input, line 2: the text has no visible character"),
        ("one\ncaf\xe9\n".encode("latin-1"), "standard input, line 2: not UTF-8 (byte 7 of the file)"),
    ],
)
def test_what_standard_input_brings_is_checked(
    tlm: Tlm, cheap: None, monkeypatch: pytest.MonkeyPatch, content: bytes, fragment: str
) -> None:
    give(monkeypatch, content)
    refused(tlm("predict", MODEL, "--file", "-"), fragment)


def test_standard_input_that_is_closed_is_an_error(tlm: Tlm, cheap: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    refused(tlm("predict", MODEL, "--file", "-"), "Cannot read standard input (it is closed)")
    closed = io.TextIOWrapper(io.BytesIO())
    closed.close()
    monkeypatch.setattr(sys, "stdin", closed)
    refused(tlm("predict", MODEL, "--file", "-"), "Cannot read standard input (it is closed)")


def test_a_pipe_is_read_and_one_that_nobody_writes_to_is_empty(tlm: Tlm, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo("pipe")
    refused(tlm("predict", MODEL, "--file", "pipe"), "pipe holds no text")
    end = os.open("pipe", os.O_RDWR)  # as the shell's <(…) has it: somebody is there to write before it is opened
    open_pipe = files._opened_pipe

    def opened(path: Path) -> BinaryIO:
        pipe = open_pipe(path)
        os.write(end, b"wave tide\n")
        os.close(end)
        return pipe

    monkeypatch.setattr(files, "_opened_pipe", opened)
    assert predicted(tlm("predict", MODEL, "--file", "pipe")) == ["wave tide"]


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "."])
def test_what_is_neither_a_file_nor_a_pipe_is_refused(tlm: Tlm, cheap: None, name: str) -> None:
    refused(tlm("predict", MODEL, "--file", name), f"{name}: not a file")


# --- foreign bytes ---


def test_a_text_in_foreign_bytes_is_refused_with_its_place(tlm: Tlm, cheap: None) -> None:
    foreign = "café".encode("latin-1").decode("utf-8", "surrogateescape")  # as Python gives it to a program
    refused(tlm("predict", MODEL, "--text", "good", "--text", foreign), "--text number 2: not UTF-8 (byte 3 of it)")
    refused(tlm("predict", MODEL, "--text", "\ud83c"), "--text number 1: the text holds half a character (\\ud83c)")


def test_names_in_foreign_bytes_are_spelled_out(tlm: Tlm) -> None:
    foreign = "caf\udce9"
    refused(tlm("predict", MODEL, "--file", f"{foreign}.csv"), "caf\\udce9.csv: no such file")
    refused(tlm("predict", foreign, "--text", "x"), "udce9")
    said = tlm("predict", MODEL, "--text", "wave tide", "--out", f"{foreign}.csv")
    assert said.code == 0 and "1 texts: caf\\udce9.csv" in said.out
    assert Path(f"{foreign}.csv").exists()


def test_a_text_may_begin_with_dashes(tlm: Tlm) -> None:
    assert predicted(tlm("predict", MODEL, "--text", "--1", "--text", "-")) == ["--1", "-"]


# --- formulas ---

FORMULAS = [
    '=HYPERLINK("http://example.org";"tide")',
    "+1+cmd|' /C calc'!A0",
    "-2 wave",
    "@SUM(1)",
    "\t=1+1",
    " =1+1",
    "＝1+1",
]
HARMLESS = ["wave = tide", "'=1", "a -b", "(=1)", "1+1"]


def cells(path: str) -> list[str]:
    return pd.read_csv(path, keep_default_na=False)["text"].tolist()


def test_text_is_written_as_it_is_unless_its_formulas_are_to_be_escaped(tlm: Tlm) -> None:
    write_csv(Path("new.csv"), ["text"], [(text,) for text in (*FORMULAS, *HARMLESS)])
    expected = [*(f"'{text}" for text in FORMULAS), *HARMLESS]
    assert predicted(tlm("predict", MODEL, "--file", "new.csv")) == [*FORMULAS, *HARMLESS]
    assert predicted(tlm("predict", MODEL, "--file", "new.csv", "--escape-formulas")) == expected
    for options, found in (([], [*FORMULAS, *HARMLESS]), (["--escape-formulas"], expected)):
        assert tlm("predict", MODEL, "--file", "new.csv", "--out", "found.csv", *options).code == 0
        assert cells("found.csv") == found


def test_labels_are_escaped_too(tlm: Tlm, monkeypatch: pytest.MonkeyPatch) -> None:
    load = inference.Classifier.load

    def renamed(*arguments: object) -> inference.Classifier:
        found = load(*arguments)  # type: ignore[arg-type]
        return inference.Classifier(found.name, ("=land", "=sea"), found.encoder, found.model)

    monkeypatch.setattr(inference.Classifier, "load", renamed)
    said = tlm("predict", MODEL, "--text", "wave", "--top", "2", "--escape-formulas")
    row = pd.read_csv(io.StringIO(said.out)).iloc[0]
    assert {row["label"], row["label_2"]} == {"'=land", "'=sea"}


def test_a_query_in_a_pipe_has_the_same_option(tlm: Tlm) -> None:
    query = "select '=1+1' as a, -1 as b, ['-x'] as c, null::varchar as d"
    assert tlm("sql", query).out.splitlines()[1].startswith('"=1+1",-1,')
    said = tlm("sql", query, "--escape-formulas").out.splitlines()[1]
    assert said.startswith('"\'=1+1",-1,'), said


@pytest.mark.parametrize("command", ["predict", "sql"])
def test_the_help_says_what_the_option_is_for(tlm: Tlm, command: str) -> None:
    said = " ".join(tlm(command, "--help").out.replace("│", " ").split())
    assert "--escape-formulas" in said and "a spreadsheet would compute" in said
