"""A user's own files: CSV (with a header), JSON lines, Parquet, or plain text (paragraphs between blank lines)."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlm.data.sources.base import (
    COLUMNS_WAY_OUT,
    Loaded,
    Progress,
    confine,
    digests,
    list_files,
    require,
    require_columns,
    shown,
)
from tlm.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from tlm.study.sources import FilesSource

SUFFIXES = {
    "csv": (".csv",),
    "jsonl": (".jsonl", ".ndjson"),
    "parquet": (".parquet",),
    "text": (".txt", ".text"),
}
_REMEDY = "Set TLM_DATA_ROOT to the folder that holds the data, or correct `path`."
# A cell longer than the csv module's 128 KiB default is a long text, not an error.
_LONGEST_CELL = 2**31 - 1


def identity(source: FilesSource, data_root: str) -> dict[str, Any]:
    """Digest of each file by its part and rank in the folder, the format, and the columns read."""
    places = {
        f"{split}-{index:05d}": place
        for split, files in _places(source, data_root).items()
        for index, place in enumerate(files)
    }
    columns = [] if source.format == "text" else [source.text_column, source.label_column]
    return {"kind": "files", "format": source.format, "columns": columns, "sha256": digests(places)}


def count_hint(source: FilesSource, data_root: str) -> int | None:
    """Number of rows of Parquet files; not known for other formats."""
    from tlm.data.sources.table import parquet_rows

    if source.format != "parquet":
        return None
    places = [place for files in _places(source, data_root).values() for place in files]
    return sum(parquet_rows(place, shown(data_root, place)) for place in places)


def read(source: FilesSource, data_root: str, progress: Progress | None = None) -> Loaded:
    """All rows; one pool unless `test_path` is given. item_id is part-file:row, both counted from 0.

    Raises:
        UserError: files missing or outside the data root; a column missing; text empty or label null (file and line);
            bad CSV, JSON, UTF-8 or Parquet; no row at all; labels asked of plain text.
    """
    from tlm.data.sources.table import loaded

    if source.format == "text" and source.label_column:
        raise UserError("Plain text has no labels.", "Leave label_column out, or use csv, jsonl or parquet.")
    files = [
        (split, index, place)
        for split, places in _places(source, data_root).items()
        for index, place in enumerate(places)
    ]
    parts = []
    for done, (split, index, place) in enumerate(files, start=1):
        try:
            parts.append(_read_file(source, place, shown(data_root, place), split, f"{split}-{index:05d}"))
        except UnicodeDecodeError as error:
            name = shown(data_root, place)
            raise UserError(f"{name}: not UTF-8 (byte {error.start}).", "Save the file as UTF-8.") from error
        except OSError as error:
            raise UserError(f"{shown(data_root, place)}: {error.strerror or error}.", "Check the file.") from error
        if progress is not None:
            progress(done, len(files))
    for split in ("train", "test"):
        own = [p.num_rows for p, (s, _, _) in zip(parts, files, strict=True) if s == split]
        if own and not sum(own):
            raise UserError(f"The {split} part of {source.path} holds no item.", "Check that the file is whole.")
    return loaded(parts, source.path)


def _places(source: FilesSource, data_root: str) -> dict[str, list[Path]]:
    if source.test_path is None:
        return {"all": _expand(source.path, source.format, data_root)}
    places = {
        "train": _expand(source.path, source.format, data_root),
        "test": _expand(source.test_path, source.format, data_root),
    }
    if both := sorted({shown(data_root, p) for p in set(places["train"]) & set(places["test"])}):
        raise UserError(f"Both the training and the test part: {', '.join(both)}.", "Give each part its own files.")
    return places


def _expand(path: str, file_format: str, data_root: str) -> list[Path]:
    if confine(data_root, path).is_dir():
        return list_files(data_root, path, SUFFIXES[file_format], _REMEDY)
    return [require(data_root, {"data": path}, _REMEDY)["data"]]


def _read_file(source: FilesSource, place: Path, name: str, split: str, prefix: str) -> pa.Table:
    from tlm.data.sources.table import part, read_parquet, rows_of

    label_column = source.label_column
    if source.format == "parquet":
        columns = [source.text_column, *([label_column] if label_column else [])]
        table = read_parquet(place, name, columns)
        labels = table[label_column].to_pylist() if label_column else None
        return part(split, table[source.text_column], rows_of(name), labels=labels, prefix=prefix)
    rows: Iterator[tuple[int, str | None, Any]]
    if source.format == "csv":
        rows = csv_rows(place, name, source.text_column, label_column)
    elif source.format == "jsonl":
        rows = jsonl_rows(place, name, source.text_column, label_column)
    else:
        rows = _paragraphs(place)
    lines: list[int] = []
    texts: list[str | None] = []
    values: list[Any] = []
    for line, text, label in rows:
        lines.append(line)
        texts.append(text)
        values.append(label)
    return part(
        split, texts, lambda i: f"{name}, line {lines[i]}", labels=values if label_column else None, prefix=prefix
    )


def csv_rows(
    place: Path, name: str, text_column: str, label_column: str | None = None, remedy: str = COLUMNS_WAY_OUT
) -> Iterator[tuple[int, str, str | None]]:
    """Line, text and label of each row of a CSV file, as it is read. UserError with file and line if it is not one."""
    csv.field_size_limit(_LONGEST_CELL)
    with open(place, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        line = 1
        try:
            header = next(reader, None)
            if header is None:
                return
            require_columns([text_column, *([label_column] if label_column else [])], header, name, remedy)
            if twice := sorted({column for column in header if header.count(column) > 1}):
                raise UserError(f"{name}: two columns named {', '.join(twice)}.", "Give each column its own name.")
            text_at, label_at = header.index(text_column), header.index(label_column) if label_column else None
            line = reader.line_num + 1  # where the next row starts: a quoted cell may span lines
            for row in reader:
                if row and len(row) != len(header):
                    raise UserError(
                        f"{name}, line {line}: {len(row)} cells under {len(header)} columns.",
                        "Quote cells that hold commas or line breaks.",
                    )
                if row:
                    label = (row[label_at].strip() or None) if label_at is not None else None
                    yield line, row[text_at], label
                line = reader.line_num + 1
        except csv.Error as error:
            raise UserError(f"{name}, line {line}: not valid CSV ({error}).", "Check the quotes.") from error


def jsonl_rows(
    place: Path, name: str, text_column: str, label_column: str | None = None, remedy: str = COLUMNS_WAY_OUT
) -> Iterator[tuple[int, str | None, Any]]:
    """Line, text and label of each object of a JSON lines file, as it is read. UserError with file and line."""
    with open(place, encoding="utf-8-sig") as file:
        for line, raw in enumerate(file, start=1):
            if not raw.strip():
                continue
            try:
                row = json.loads(raw)
            except ValueError as error:
                message = getattr(error, "msg", str(error))
                raise UserError(
                    f"{name}, line {line}: not valid JSON ({message}).", "One object on each line."
                ) from error
            if not isinstance(row, dict):
                raise UserError(f"{name}, line {line}: not a JSON object.", "One object on each line.")
            wanted = [text_column, *([label_column] if label_column else [])]
            require_columns(wanted, row, f"{name}, line {line}", remedy)
            text = row[text_column]
            if text is not None and not isinstance(text, str):
                raise UserError(f"{name}, line {line}: the text is a {type(text).__name__}.", "Texts are strings.")
            yield line, text, row[label_column] if label_column else None


def _paragraphs(place: Path) -> Iterator[tuple[int, str, None]]:
    start = 0
    block: list[str] = []
    with open(place, encoding="utf-8-sig") as file:
        for line, raw in enumerate(file, start=1):
            if text := " ".join(raw.split()):
                start = start if block else line
                block.append(text)
            elif block:
                yield start, " ".join(block), None
                block = []
    if block:
        yield start, " ".join(block), None
