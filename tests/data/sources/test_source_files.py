"""A user's own files, in four formats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from source_files import write, write_parquet

from tlm.data import sources
from tlm.errors import UserError
from tlm.study.sources import FilesSource


def read(root: Path, **fields: object) -> sources.Loaded:
    return sources.read(FilesSource.model_validate(fields), str(root))


def expect_refusal(root: Path, fragment: str, **fields: object) -> None:
    with pytest.raises(UserError, match=fragment):
        read(root, **fields).table


def test_the_same_rows_in_every_labelled_format(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", 'y,text,other\nspam,"buy, now\ntoday",1\nham,hello,2\n')
    lines = [{"text": "buy, now\ntoday", "y": "spam"}, {"text": "hello", "y": "ham", "other": 2}]
    write(tmp_path / "a.jsonl", "\n\n".join(map(json.dumps, lines)))
    write_parquet(tmp_path / "a.parquet", text=[line["text"] for line in lines], y=["spam", "ham"])
    loaded = [read(tmp_path, format=f, path=f"a.{f}", label_column="y") for f in ("csv", "jsonl", "parquet")]
    assert loaded[0].table.equals(loaded[1].table) and loaded[0].table.equals(loaded[2].table)
    assert loaded[0].label_names == ("ham", "spam")
    assert loaded[0].table.to_pydict() == {
        "item_id": ["all-00000:0", "all-00000:1"],
        "text": ["buy, now\ntoday", "hello"],
        "split": ["all", "all"],
        "label": [1, 0],
    }


def test_whole_number_labels_sort_by_value_and_parts_share_their_names(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "text,label\na,10\nb,9\n")
    write(tmp_path / "test.csv", "text,label\nc,9\n")
    loaded = read(tmp_path, format="csv", path="train.csv", test_path="test.csv", label_column="label")
    assert loaded.label_names == ("9", "10")
    assert loaded.table["label"].to_pylist() == [1, 0, 0]
    assert loaded.table["split"].to_pylist() == ["train", "train", "test"]
    assert loaded.table["item_id"].to_pylist() == ["train-00000:0", "train-00000:1", "test-00000:0"]
    write_parquet(tmp_path / "n.parquet", text=["a", "b"], label=[7, 3])
    assert read(tmp_path, format="parquet", path="n.parquet", label_column="label").label_names == ("3", "7")


def test_plain_text_is_paragraphs_and_a_folder_is_its_files_by_name(tmp_path: Path) -> None:
    write(tmp_path / "books/b.txt", "third")
    write(tmp_path / "books/a.txt", "\ufefffirst\n  goes on\n\n \n\nsecond\n")
    write(tmp_path / "books/ignored.csv", "text\nx\n")
    loaded = read(tmp_path, format="text", path="books")
    assert loaded.table["text"].to_pylist() == ["first goes on", "second", "third"]
    assert loaded.table["item_id"].to_pylist() == ["all-00000:0", "all-00000:1", "all-00001:0"]
    expect_refusal(tmp_path, "no labels", format="text", path="books", label_column="y")


def test_identity_holds_content_and_columns_but_no_path(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "text,y\na,1\n")
    write(tmp_path / "sub/b.csv", "text,y\na,1\n")

    def identity(**fields: object) -> dict[str, object]:
        return sources.identity(FilesSource.model_validate({"format": "csv", **fields}), str(tmp_path))

    assert identity(path="a.csv") == identity(path="sub/b.csv") == identity(path="sub")
    assert identity(path="a.csv") != identity(path="a.csv", label_column="y")
    write(tmp_path / "sub/b.csv", "text,y\nb,1\n")
    assert identity(path="a.csv") != identity(path="sub/b.csv")
    write_parquet(tmp_path / "p.parquet", text=["a", "b"])
    assert sources.count_hint(FilesSource(format="parquet", path="p.parquet"), str(tmp_path)) == 2
    assert sources.count_hint(FilesSource(format="csv", path="a.csv"), str(tmp_path)) is None


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        ("body,y\na,1\n", "a.csv has no column 'text'; it has 'body', 'y'"),
        ("text\na\n", "no column 'y'; it has 'text'"),
        ('text,y\n"a\nb",1\n,2\n', "a.csv, line 4: the text is empty"),
        ("text,y\na,1\nb,\n", "a.csv, line 3: the label is missing"),
        ("text,y\na,1\nb\n", "a.csv, line 3: 1 cells under 2 columns"),
        ('text,y\na,1\n"b,1\n', "a.csv, line 3: not valid CSV"),
        ("text,text,y\na,b,1\n", "two columns named 'text'"),
        ("text,y\n", "holds no item"),
        ("", "holds no item"),
    ],
)
def test_bad_csv_says_where(content: str, fragment: str, tmp_path: Path) -> None:
    write(tmp_path / "a.csv", content)
    expect_refusal(tmp_path, fragment, format="csv", path="a.csv", label_column="y")


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        ('{"text": "a", "y": 1}\n\n{"text": \n', "a.jsonl, line 3: not valid JSON"),
        ('["a"]', "line 1: not a JSON object"),
        ('{"text": "a", "y": 1}\n{"y": 1}', "line 2 has no column 'text'; it has 'y'"),
        ('{"text": "  ", "y": 1}', "line 1: the text is empty"),
        ('{"text": null, "y": 1}', "line 1: the text is empty"),
        ('{"text": 5, "y": 1}', "line 1: the text is a int"),
        ('{"text": "a", "y": null}', "line 1: the label is missing"),
        ('{"text": "a", "y": 0.5}', "line 1: the label is a float"),
        ("", "holds no item"),
    ],
)
def test_bad_json_lines_say_where(content: str, fragment: str, tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", content)
    expect_refusal(tmp_path, fragment, format="jsonl", path="a.jsonl", label_column="y")


def test_labels_of_two_kinds_are_names(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", '{"text": "a", "y": 1}\n{"text": "b", "y": "1"}\n{"text": "c", "y": "x"}')
    loaded = read(tmp_path, format="jsonl", path="a.jsonl", label_column="y")
    assert loaded.label_names == ("1", "x") and loaded.table["label"].to_pylist() == [0, 0, 1]


def test_other_mistakes(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "text\na\n")
    write(tmp_path / "empty.csv", "text\n")
    (tmp_path / "latin.csv").write_bytes("text\ncaf\xe9\n".encode("latin-1"))
    (tmp_path / "latin.jsonl").write_bytes('{"text": "caf\xe9"}'.encode("latin-1"))
    (tmp_path / "bad.parquet").write_bytes(b"no")
    expect_refusal(tmp_path, r"latin.csv, line 2: not UTF-8 \(byte 8 of the file\)", format="csv", path="latin.csv")
    expect_refusal(
        tmp_path, r"latin.jsonl, line 1: not UTF-8 \(byte 13 of the file\)", format="jsonl", path="latin.jsonl"
    )
    expect_refusal(tmp_path, "bad.parquet: not a readable Parquet", format="parquet", path="bad.parquet")
    expect_refusal(tmp_path, r"Missing.*b\.csv.*TLM_DATA_ROOT", format="csv", path="b.csv")
    expect_refusal(tmp_path, "Both the training and the test part: a.csv", format="csv", path="a.csv", test_path=".")
    expect_refusal(tmp_path, "test part.*no item", format="csv", path="a.csv", test_path="empty.csv")
