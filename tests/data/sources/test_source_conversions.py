"""What a file's values are converted from, and which files are read: an error on one line where that cannot be."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest
from source_files import TABLES, put, read, write, write_parquet

from tlm.data import sources
from tlm.errors import UserError
from tlm.study.sources import FilesSource


def test_whole_numbers_of_any_size_are_labels_and_sort_by_value(tmp_path: Path) -> None:
    numbers = [2**70, -(2**70), 9, 10, 2**64]
    for form in ("csv", "tsv", "jsonl"):
        put(tmp_path, form, [(f"text {n}", n) for n in numbers])
        assert read(tmp_path, form).label_names == tuple(map(str, sorted(numbers)))


@pytest.mark.parametrize("odd", ["--1", "-", "1-", "9" * 5_000, "1_000"])
def test_names_that_only_resemble_numbers_sort_as_text(odd: str, tmp_path: Path) -> None:
    for form in TABLES:
        put(tmp_path, form, [("a", "10"), ("b", odd), ("c", "9")])
        assert read(tmp_path, form).label_names == tuple(sorted(["10", odd, "9"]))


def test_truth_values_are_labels_as_json_writes_them(tmp_path: Path) -> None:
    write(tmp_path / "items.jsonl", '{"text": "a", "y": true}\n{"text": "b", "y": "false"}\n')
    write_parquet(tmp_path / "items.parquet", text=["a", "b"], y=[True, False])
    assert read(tmp_path, "jsonl").label_names == read(tmp_path, "parquet").label_names == ("false", "true")


def test_a_missing_value_is_missing_however_a_program_writes_it(tmp_path: Path) -> None:
    write(tmp_path / "items.jsonl", '{"text": "a", "y": NaN}')
    write_parquet(tmp_path / "items.parquet", text=["a"], y=pa.nulls(1))
    for form in ("jsonl", "parquet"):
        with pytest.raises(UserError, match="1: the label is missing"):
            read(tmp_path, form)
    write(tmp_path / "items.jsonl", '{"text": NaN, "y": 1}')
    write_parquet(tmp_path / "items.parquet", text=pa.nulls(1), y=["x"])
    for form in ("jsonl", "parquet"):
        with pytest.raises(UserError, match="1: the text is empty"):
            read(tmp_path, form)


def test_a_column_may_be_any_kind_of_strings(tmp_path: Path) -> None:
    texts, labels = pa.array(["a", "b", "c"]), pa.array(["x", "x ", "y"])
    kinds = (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()))
    for kind in kinds:
        write_parquet(tmp_path / "items.parquet", text=texts.cast(kind), y=labels.cast(kind))
        loaded = read(tmp_path, "parquet")
        assert loaded.label_names == ("x", "y") and loaded.table["text"].to_pylist() == ["a", "b", "c"]


def test_blank_lines_of_a_table_are_no_rows(tmp_path: Path) -> None:
    write(tmp_path / "items.csv", "\n\ntext,y\na,b\n\nc,\n")
    with pytest.raises(UserError, match="items.csv, line 6: the label is missing"):
        read(tmp_path, "csv")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "a", "y": ' + "[" * 100_000, "line 1: not valid JSON (nested too deeply)"),
        ('{"text": "a", "y": ' + "9" * 10_000 + "}", "line 1: not valid JSON (Exceeds the limit"),
        ('{"text": "a", "y": [1]}', "line 1: the label is a list"),
        ('{"text": "a", "y": 1e999}', "line 1: the label is a float"),
        ('{"text": ["a"], "y": 1}', "line 1: the text is a list"),
    ],
    ids=["deep", "long", "list", "float", "text"],
)
def test_json_that_cannot_be_converted_is_one_line_with_its_place(line: str, said: str, tmp_path: Path) -> None:
    write(tmp_path / "items.jsonl", line)
    with pytest.raises(UserError, match=re.escape(said)) as raised:
        read(tmp_path, "jsonl")
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 300


# --- names of files ---


def test_what_a_folder_holds_beside_the_files_that_are_read_is_named(tmp_path: Path) -> None:
    for name in ("a.txt", "B.TXT", "notes.md", "c.csv", "_d.txt", ".hidden.txt", "sub/e.txt"):
        write(tmp_path / f"books/{name}", "text")
    (tmp_path / "books/broken.txt").symlink_to("nowhere")
    source = FilesSource(format="text", path="books")
    aside = [".hidden.txt", "_d.txt", "broken.txt", "c.csv", "notes.md", "sub/"]
    assert sources.left_out(source, str(tmp_path)) == [f"books/{name}" for name in aside]
    loaded = sources.read(source, str(tmp_path))
    assert loaded.table.num_rows == 2
    assert loaded.facts["passed_over"] == ", ".join(f"books/{name}" for name in aside)
    only = FilesSource(format="text", path="books/a.txt")
    assert sources.left_out(only, str(tmp_path)) == [] and not sources.read(only, str(tmp_path)).facts


def test_a_file_that_is_called_otherwise_than_its_format_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "csv", [("a", "b")])
    for form in ("text", "tsv", "jsonl", "parquet"):
        with pytest.raises(
            UserError, match=f"items.csv is called a csv file, and is to be read as {form}.*format: csv"
        ):
            read(tmp_path, form, path="items.csv", label_column=None if form == "text" else "y")
    (tmp_path / "items.csv").rename(tmp_path / "items.data")
    assert read(tmp_path, "csv", path="items.data").label_names == ("b",), "the study says what it is"


@pytest.mark.parametrize("path", ["loop.txt", "x" * 300 + ".txt", "\ud800.txt", "nul\0.txt"])
def test_a_path_that_cannot_be_followed_is_an_error_on_one_line(path: str, tmp_path: Path) -> None:
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    with pytest.raises(UserError, match="is not one") as raised:
        sources.identity(FilesSource.model_construct(format="text", path=path, test_path=None), str(tmp_path))
    assert "\n" not in str(raised.value)
