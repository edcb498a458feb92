"""A user's error is one line and exit code 2, with nothing written."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import Said, Study, Tlm, write_csv

from flows import cli
from tlm.errors import UserError


def expect_refusal(said: Said, home: Path, *fragments: str) -> None:
    assert said.code == 2, said
    assert said.err.startswith("error: ") and said.err.count("\n") == 1, said.err
    for fragment in fragments:
        assert fragment in said.err, said.err
    assert list(home.rglob("*")) == [], "nothing is written"
    assert "prefect" not in said.out.lower()


def test_an_unknown_study(tlm: Tlm, home: Path) -> None:
    expect_refusal(tlm("run", "deno"), home, "'deno'", "'demo'", ".yaml")


def test_an_unknown_field(tlm: Tlm, home: Path) -> None:
    expect_refusal(tlm("run", "demo", "--set", "pretrain.epoch=5"), home, "'epoch'", "'epochs'")


def test_a_wrong_value(tlm: Tlm, home: Path) -> None:
    expect_refusal(tlm("run", "demo", "--set", "pretrain.steps=many"), home, "pretrain.steps", "'many'")


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_study_with_an_unknown_name_of_a_sampler(tlm: Tlm, home: Path, study: Study, command: str) -> None:
    expect_refusal(tlm(command, study(corpus__sampler="best")), home, "corpus.sampler", "'best'", "'random'")


def test_a_size_larger_than_the_corpus(tlm: Tlm, home: Path, study: Study) -> None:
    said = tlm("run", study(), "--set", "corpus.sizes=[0, 120, 5000]")
    expect_refusal(said, home, "Ws=5000", "has 200", "Choose Ws up to 180")


def test_one_document_a_line_in_a_text_file(tlm: Tlm, home: Path, study: Study, tmp_path: Path) -> None:
    (tmp_path / "raw/texts.txt").write_text("a document\n" * 120)
    text = {"kind": "files", "format": "text", "path": "texts.txt"}
    for sizes in ([0], [0, 60, 120]):
        said = tlm("run", study(corpus__source=text, corpus__sizes=sizes, treatments=[]))
        expect_refusal(said, home, "has 1.", "texts.txt a paragraph ends at a blank line", "jsonl")
        assert "Choose Ws" not in said.err
    own = {"kind": "foreign", "name": "other", "source": text, "own": 5}
    expect_refusal(tlm("run", study(treatments=[own])), home, "treatments.other: own=5", "ends at a blank line")


def test_a_task_with_one_label(tlm: Tlm, home: Path, study: Study, tmp_path: Path) -> None:
    write_csv(tmp_path / "raw/task.csv", ["text", "label"], [("some text", "sea")] * 60)
    for labels in (None, 2):
        said = tlm("run", study(tasks__0__labels=labels))
        expect_refusal(said, home, "task topics: its source has one label ('sea')", "label_column")


def test_a_source_of_which_nothing_can_be_seen(tlm: Tlm, home: Path, study: Study, tmp_path: Path) -> None:
    write_csv(tmp_path / "raw/corpus.csv", ["text"], [("\u200b\u00ad",)] * 200)
    expect_refusal(tlm("run", study()), home, "source files-corpus: none of its 200 texts has a visible character")


def test_memory_that_holds_no_training_process(
    tlm: Tlm, home: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TLM_MEMORY_GIB", "0.1")
    expect_refusal(tlm("run", study()), home, "TLM_MEMORY_GIB=0.1 allows less", "a smaller model")


def test_more_labels_than_the_task_has(tlm: Tlm, home: Path, study: Study) -> None:
    expect_refusal(tlm("run", study(), "--set", "tasks.topics.labels=3"), home, "task topics", "labels=3", "has 2")


def test_a_csv_without_the_label_column(tlm: Tlm, home: Path, study: Study) -> None:
    said = tlm("run", study(), "--set", "tasks.0.source.label_column=topic")
    expect_refusal(said, home, "task.csv", "'topic'", "'text', 'label'", "label_column")


def test_a_task_whose_source_names_no_label_column(tlm: Tlm, home: Path, study: Study) -> None:
    said = tlm("run", study(), "--set", "tasks.0.source.label_column=null")
    expect_refusal(said, home, "task topics", "no labels", "label_column")


def test_a_class_with_too_few_rows(tlm: Tlm, home: Path, study: Study, tmp_path: Path) -> None:
    rows = [("some text", "often")] * 30 + [("some text", "seldom")] * 5
    write_csv(tmp_path / "raw/task.csv", ["text", "label"], rows)
    expect_refusal(tlm("run", study()), home, "task topics", "'seldom' has 5", "22 needed", "train_per_label")


def test_an_empty_text(tlm: Tlm, home: Path, study: Study, tmp_path: Path) -> None:
    write_csv(tmp_path / "raw/corpus.csv", ["text"], [("some text",)] * 200 + [("  ",)])
    expect_refusal(tlm("run", study()), home, "corpus.csv, line 202", "the text is empty")


def test_a_vocabulary_file_that_is_not_one(tlm: Tlm, home: Path, study: Study) -> None:
    given = {"kind": "vocabulary", "path": "task.csv"}
    expect_refusal(
        tlm("run", study(tokenizer=given)), home, "task.csv is not a BERT vocabulary", "[MASK]", "one token a line"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"tokenizer": {"kind": "hub"}},
        {"corpus__source": {"kind": "wikipedia", "origin": "hub"}},
        {"tasks__0__source": {"kind": "hub", "repo": "some/data", "revision": "main", "label_column": "label"}},
    ],
    ids=["tokenizer", "corpus", "task"],
)
def test_a_hub_that_cannot_be_reached(
    change: dict[str, object], tlm: Tlm, home: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    started = time.monotonic()
    said = tlm("run", study(**change))
    assert time.monotonic() - started < 10
    expect_refusal(said, home, "127.0.0.1:9 cannot be reached", "HF_HUB_OFFLINE")


def test_a_home_that_is_not_writable(tlm: Tlm, home: Path, study: Study, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file/home", Path("/proc/tlm")):
        expect_refusal(tlm("run", study(), "--home", str(place)), home, f"TLM_HOME={place} is not writable")


def test_a_data_root_that_lacks_every_file_names_them_all(tlm: Tlm, home: Path, tmp_path: Path) -> None:
    vocabulary = ("--set", "tokenizer={kind: vocabulary}")
    said = tlm("run", "quickstart", *vocabulary, "--data-root", str(tmp_path / "nowhere"))
    expect_refusal(
        said,
        home,
        "wikipedia/*.parquet",
        "few_rel/val_wiki.json",
        "ag_news/train.parquet",
        "ag_news/test.parquet",
        "dbpedia_14/train.parquet",
        "bert-base-uncased/vocab.txt",
        "TLM_DATA_ROOT",
    )


def test_a_device_that_is_not_there(tlm: Tlm, home: Path, study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    expect_refusal(tlm("run", study(), "--device", "cuda"), home, "device=cuda", "--device cpu")


def test_a_device_that_does_not_exist(tlm: Tlm, home: Path, study: Study) -> None:
    expect_refusal(tlm("run", study(), "--device", "tpu"), home, "device", "'tpu'", "cuda")


def test_a_run_that_nobody_recorded(tlm: Tlm, home: Path, study: Study) -> None:
    expect_refusal(tlm("explain", study(), "--against", "yesterday"), home, "'yesterday'", "none yet")


def test_a_selector_that_names_nothing(tlm: Tlm, home: Path) -> None:
    expect_refusal(tlm("invalidate", "pretrain"), home, "'pretrain'")


def test_sql_without_a_query_and_with_a_missing_file(tlm: Tlm, home: Path) -> None:
    expect_refusal(tlm("sql"), home, "query or --file")
    expect_refusal(tlm("sql", "--file", "none.sql"), home, "Cannot read none.sql")


def test_a_scale_for_a_study_that_has_none(tlm: Tlm, home: Path, study: Study) -> None:
    expect_refusal(tlm("run", "demo", "--scale", "tiny"), home, "demo exists at one scale only", "Leave --scale")
    expect_refusal(tlm("run", study(), "--scale", "tiny"), home, "is no named study", "--scale")


def test_an_unknown_scale(tlm: Tlm, home: Path) -> None:
    for command in ("run", "plan", "show"):
        expect_refusal(tlm(command, "ws-sweep", "--scale", "huge"), home, "'huge'", "tiny, small, paper")


def test_an_import_of_nothing(tlm: Tlm, home: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    expect_refusal(tlm("import", str(tmp_path / "empty")), home, f"There are no artifacts in {tmp_path / 'empty'}")
    expect_refusal(tlm("import", str(tmp_path / "none")), home, f"{tmp_path / 'none'} is not a folder")


def test_a_report_before_any_study(tlm: Tlm, home: Path, tmp_path: Path) -> None:
    said = tlm("report", "--out", str(tmp_path / "docs/results.md"))
    expect_refusal(said, home, "No study that answers a question has run yet", "tlm run ws-sweep --scale tiny")
    assert not (tmp_path / "docs").exists()


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda path: path.write_bytes("select 'für'".encode("latin-1")), "byte 9 is not UTF-8"),
        (Path.mkdir, "Is a directory"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda path: path.symlink_to("/dev/zero"), "more than 1,000,000 bytes"),
        (lambda path: None, "No such file or directory"),
    ],
)
def test_a_file_that_holds_no_query_is_named_in_one_line(
    tlm: Tlm, tmp_path: Path, write: Callable[[Path], object], says: str
) -> None:
    write(tmp_path / "query.sql")
    said = tlm("sql", "--file", str(tmp_path / "query.sql"))
    assert said.code == 2 and said.err.startswith(f"error: Cannot read {tmp_path}/query.sql: ") and says in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("command", [("verify",), ("sql", "select 1"), ("gc",), ("report",), ("catalogue",)])
@pytest.mark.parametrize("how", [Path.touch, os.mkfifo, lambda path: path.symlink_to(path)])
def test_what_stands_in_the_place_of_all_artifacts_is_told_in_one_line(
    tlm: Tlm, home: Path, command: tuple[str, ...], how: Callable[[Path], object]
) -> None:
    place = home / "data/artifacts"
    place.parent.mkdir()
    how(place)
    said = tlm(*command)
    assert said.code == 2 and said.err.startswith("error: ") and said.err.count("\n") == 1, said
    assert command == ("report",) or str(place) in said.err


def test_debug_shows_the_traceback(tlm: Tlm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["tlm", "run", "deno", "--debug"])
    with pytest.raises(UserError):
        cli.main()
