"""`tlm predict`: from texts in any form to labels in any form, and every error before any work."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from helpers import Mini, Said, Tlm, command_line, only, python, write_csv

from flows import predicting
from tlm.inference import files as inference_files
from tlm.inference import models as inference

TEXTS = ["the old ship near a harbour", 'every farmer, [bold]saw[/bold] "wheat"', "a man and a house"]
MODEL = "finetune/topics-one-ws60-s0-p0-f0"
COMMITTEE = "committee/topics-pair-ws60"


@pytest.fixture
def tlm(mini: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tlm:
    """Run a command on the miniature study, in an empty folder."""
    monkeypatch.setenv("TLM_HOME", mini.runtime.home)
    monkeypatch.chdir(tmp_path)
    return command_line(monkeypatch, capsys)


def table(said: Said) -> pd.DataFrame:
    assert said.code == 0, said
    return pd.read_csv(io.StringIO(said.out))


def texts_file(name: str) -> str:
    """TEXTS in a file of the kind that its name says."""
    frame = pd.DataFrame({"id": range(len(TEXTS)), "text": TEXTS})
    match Path(name).suffix.lower():
        case ".csv":
            write_csv(Path(name), ["id", "text"], [(str(i), text) for i, text in enumerate(TEXTS)])
        case ".parquet":
            frame.to_parquet(name)
        case ".jsonl":
            frame.to_json(name, orient="records", lines=True)
        case _:
            Path(name).write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    return name


# --- what comes out ---


def test_a_pipe_gets_every_text_whole_as_csv(tlm: Tlm, mini: Mini) -> None:
    found = table(tlm("predict", MODEL, *(part for text in TEXTS for part in ("--text", text))))
    assert found["text"].tolist() == TEXTS
    classifier = inference.Classifier.load(mini.store, only(mini.plan, "finetune", ws=60, arch="one").ref)
    predicted = inference.Committee((classifier,)).predict(TEXTS)
    assert found["label"].tolist() == [classifier.labels[c] for c in predicted.best()[:, 0]]
    assert found["probability"].tolist() == pytest.approx(predicted.probabilities_NC.max(axis=1).tolist())


@pytest.mark.parametrize("name", ["texts.txt", "texts.csv", "texts.parquet", "texts.jsonl", "TEXTS.CSV"])
def test_every_kind_of_file_gives_the_same_labels(tlm: Tlm, name: str) -> None:
    given = [part for text in TEXTS for part in ("--text", text)]
    pd.testing.assert_frame_equal(
        table(tlm("predict", COMMITTEE, "--file", texts_file(name))), table(tlm("predict", COMMITTEE, *given))
    )


def test_a_named_column_holds_the_texts(tlm: Tlm, tmp_path: Path) -> None:
    write_csv(tmp_path / "notes.csv", ["note", "text"], [("the ship", "x"), ("a farmer", "y")])
    found = table(tlm("predict", MODEL, "--file", "notes.csv", "--column", "note"))
    assert found["text"].tolist() == ["the ship", "a farmer"]


@pytest.mark.parametrize("out", ["found.parquet", "found.csv"])
def test_a_file_holds_every_row_in_order_and_the_labels_asked_for(
    tlm: Tlm, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference.Committee.stream, "__defaults__", (2,))
    Path(out).write_text("what was there before")
    said = tlm("predict", COMMITTEE, "--file", texts_file("texts.txt"), "--out", out, "--top", "2")
    assert said.code == 0 and f"3 texts: {out}" in said.out
    found = pd.read_parquet(out) if out.endswith("parquet") else pd.read_csv(out)
    assert list(found) == ["text", "label", "probability", "label_2", "probability_2"]
    assert found["text"].tolist() == TEXTS
    assert all({first, second} == {"sea", "land"} for first, second in zip(found["label"], found["label_2"]))
    assert (found["probability"] + found["probability_2"]).tolist() == pytest.approx([1, 1, 1])
    assert sorted(os.listdir()) == sorted(["texts.txt", out])


def test_a_parquet_file_says_which_models_made_it_and_how(tlm: Tlm) -> None:
    tlm("predict", COMMITTEE, "--text", TEXTS[0], "--rule", "vote", "--out", "found.parquet")
    about = pq.read_schema("found.parquet").metadata
    assert about[b"tlm.rule"] == b"vote"
    assert about[b"tlm.models"].startswith(b"finetune/topics-one-ws60") and b"topics-conv-ws60" in about[b"tlm.models"]


def test_a_file_is_written_whole_or_not_at_all(tlm: Tlm, monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = inference_files.prediction_table, []

    def fail_at_the_second(*arguments: object) -> object:
        if written:
            raise RuntimeError("the power is gone")
        written.append(1)
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(inference.Committee.stream, "__defaults__", (2,))
    monkeypatch.setattr(inference_files, "prediction_table", fail_at_the_second)
    texts_file("texts.txt")
    with pytest.raises(RuntimeError):
        tlm("predict", MODEL, "--file", "texts.txt", "--out", "found.parquet")
    assert written and os.listdir() == ["texts.txt"]


def test_a_terminal_gets_a_table_with_long_texts_cut(tlm: Tlm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicting, "on_terminal", lambda: True)
    long = "the old [red]ship[/red] " * 20 + "\nharbour"
    said = tlm("predict", COMMITTEE, "--text", long, "--text", "a farmer", "--top", "2")
    assert said.code == 0
    assert "[red]ship[/red]" in said.out and "…" in said.out and "a farmer" in said.out
    assert said.out.count("sea") == said.out.count("land") == 2
    assert said.out.count("probability") == 1
    assert all(len(line) <= 200 for line in said.out.splitlines())


def test_several_models_make_a_committee(tlm: Tlm) -> None:
    own = table(tlm("predict", MODEL, "topics-conv-ws60", "--text", TEXTS[0], "--rule", "logit"))
    pd.testing.assert_frame_equal(own, table(tlm("predict", COMMITTEE, "--text", TEXTS[0], "--rule", "logit")))


def test_threads_are_set_only_when_asked_for(tlm: Tlm, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    tlm("predict", MODEL, "--text", "a ship")
    assert asked == []
    tlm("predict", MODEL, "--text", "a ship", "--threads", "1")
    assert asked == [1]


# --- a user's errors ---


def refused(said: Said, *fragments: str) -> None:
    assert said.code == 2 and said.out == "", said
    assert said.err.startswith("error: ") and said.err.count("\n") == 1, said.err
    for fragment in fragments:
        assert fragment in said.err, said.err
    assert not [name for name in os.listdir() if "found" in name]


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["nothing", "--text", "x"], ["'nothing'", "There are: "]),
        (["finetune", "--text", "x"], ["names 7 models", MODEL]),
        (["pretrain/one-ws60-s0-p0", "--text", "x"], ["knows no labels", MODEL]),
        ([MODEL], ["either --text or --file", "Example:"]),
        ([MODEL, "--text", "x", "--file", "y"], ["either --text or --file"]),
        ([MODEL, "--text", "x", "--text", "  "], ["--text number 2", "empty"]),
        ([MODEL, "--text", "x", "--top", "0"], ["--top 0"]),
        ([MODEL, "--text", "x", "--rule", "vote"], ["is one model"]),
        ([COMMITTEE, "--text", "x", "--rule", "loudest"], ["'loudest'", "'soft'"]),
        ([MODEL, "--text", "x", "--column", "text"], ["no columns"]),
        ([MODEL, "--text", "x", "--out", "found.xlsx"], [".parquet or .csv"]),
        ([MODEL, "--text", "x", "--out", "nowhere/found.csv"], ["does not exist"]),
        ([MODEL, "--file", "nowhere.txt"], ["nowhere.txt: no such file"]),
        ([MODEL, "--file", "."], ["not a file"]),
        ([MODEL, "--text", "x", "--device", "tpu"], ["'tpu'"]),
        ([MODEL, "--text", "x", "--threads", "0"], ["threads"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_bad_arguments(tlm: Tlm, cheap: None, arguments: list[str], fragments: list[str]) -> None:
    refused(tlm("predict", *arguments), *fragments)


@pytest.mark.parametrize(
    ("name", "content", "fragments"),
    [
        ("empty.txt", b"", ["empty.txt holds no text"]),
        ("empty.csv", b"text\n", ["empty.csv holds no text"]),
        ("gap.txt", b"one\n\nthree\n", ["gap.txt, line 2: the text is empty"]),
        ("gap.csv", b'text\n"one\nand more"\n" "\n', ["gap.csv, line 4: the text is empty"]),
        ("none.csv", b"note,id\na,1\n", ["no column 'text'", "'note', 'id'", "--column"]),
        ("none.jsonl", b'{"note": 1}\n', ["no column 'text'", "--column"]),
        ("bytes.txt", b"\xff\xfe", ["not UTF-8"]),
        ("bytes.parquet", b"PAR1", ["not a readable Parquet file"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_files(tlm: Tlm, cheap: None, name: str, content: bytes, fragments: list[str]) -> None:
    Path(name).write_bytes(content)
    refused(tlm("predict", MODEL, "--file", name, "--out", "found.csv"), *fragments)


def test_bad_columns_of_parquet(tlm: Tlm, cheap: None) -> None:
    pd.DataFrame({"id": [1, 2], "text": ["one", None]}).to_parquet("texts.parquet")
    refused(tlm("predict", MODEL, "--file", "texts.parquet"), "texts.parquet, row 2: the text is empty")
    refused(tlm("predict", MODEL, "--file", "texts.parquet", "--column", "id"), "int64, not strings", "--column")
    refused(tlm("predict", MODEL, "--file", "texts.parquet", "--column", "body"), "no column 'body'", "'id', 'text'")


def test_errors_come_before_torch_is_even_imported(mini: Mini, tmp_path: Path) -> None:
    """What can be told from names and files alone takes no second."""
    done = python(
        f"""
import sys
from flows.cli import main
sys.argv = ["tlm", "predict", {MODEL!r}, "--file", "nowhere.txt"]
try:
    main()
except SystemExit as ended:
    print(ended.code, [name for name in ("torch", "transformers", "prefect", "mlflow") if name in sys.modules])
""",
        cwd=tmp_path,
        TLM_HOME=mini.runtime.home,
    )
    assert done.stdout == "2 []\n", done.stdout + done.stderr


def test_the_file_of_texts_is_not_written_over(tlm: Tlm, cheap: None) -> None:
    texts_file("texts.csv")
    before = Path("texts.csv").read_bytes()
    refused(tlm("predict", MODEL, "--file", "texts.csv", "--out", "./texts.csv"), "is the file of texts")
    assert Path("texts.csv").read_bytes() == before


def test_cuda_without_one_is_an_error(tlm: Tlm, cheap: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused(tlm("predict", MODEL, "--text", "x", "--device", "cuda"), "device=cuda", "--device cpu")


def test_more_labels_than_there_are(tlm: Tlm) -> None:
    refused(tlm("predict", MODEL, "--text", "x", "--top", "3"), "--top 3", "2 labels")


def test_damaged_weights(tlm: Tlm, own: Mini, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLM_HOME", own.runtime.home)
    weights = own.folder(only(own.plan, "finetune", ws=60, arch="one")) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    refused(tlm("predict", COMMITTEE, "--text", "x"), MODEL, "damaged", "model.safetensors has", "Run its study again")


def test_a_full_disk_is_said_and_leaves_nothing(tlm: Tlm, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    refused(tlm("predict", MODEL, "--text", "x", "--out", "found.csv"), "Cannot write found.csv", "No space left")
