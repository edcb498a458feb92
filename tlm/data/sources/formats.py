"""The one reader of files that users bring: texts, and labels if there are any, in any format, piece by piece."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tlm.data.sources.base import COLUMNS_WAY_OUT, require_columns
from tlm.data.sources.table import are_strings, parquet_batches, parquet_file
from tlm.data.sources.values import RepeatedKey, Where, not_utf8, parse_json
from tlm.errors import UserError

SUFFIXES = {
    "csv": (".csv",),
    "tsv": (".tsv",),
    "jsonl": (".jsonl", ".ndjson"),
    "parquet": (".parquet",),
    "text": (".txt", ".text"),
}
LINES = "lines"
"""Plain text with one text on each line; `text` has paragraphs between blank lines."""
DELIMITERS = {"csv": ",", "tsv": "\t"}
TABLES = ("csv", "tsv", "jsonl", "parquet")
# A cell longer than the csv module's 128 KiB default is a long text, not an error.
_LONGEST_CELL = 2**31 - 1

Row = tuple[int, Any, Any]
"""Its line in the file, its text and its label, as they stand there."""


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are read, and what to do if one is not there."""

    text: str = "text"
    label: str | None = None
    remedy: str = COLUMNS_WAY_OUT

    @property
    def wanted(self) -> list[str]:
        return [self.text] if self.label is None else [self.text, self.label]


@dataclass(frozen=True)
class Piece:
    """Some rows as they stand in the file: nothing in them has been checked yet but that they can be read."""

    texts: Any
    """An Arrow column, or a list."""
    labels: Any
    """Likewise; None if no column of labels is read."""
    where: Where


def format_of(path: Path) -> str | None:
    """The format that a file's name says it has."""
    return next((name for name, suffixes in SUFFIXES.items() if path.suffix.lower() in suffixes), None)


def read_pieces(place: Path, name: str, form: str, columns: Columns, at_once: int | None = None) -> Iterator[Piece]:
    """The rows of a file in its order, at most `at_once` in a piece.

    Args:
        name: what errors call the file.
        form: a key of `SUFFIXES`, or `LINES`.
    Raises:
        UserError: if it is not of that format, not UTF-8, or lacks a column: with the line or row, and the byte.
    """
    if form == "parquet":
        yield from _parquet(place, name, columns, at_once)
        return
    try:
        rows = _rows(place, name, form, columns)
        while piece := list(islice(rows, at_once)):
            lines, texts, labels = zip(*piece, strict=True)
            yield Piece(list(texts), list(labels) if columns.label else None, _lines(name, lines))
    except UnicodeDecodeError as error:
        raise not_utf8(place, name) from error
    except OSError as error:
        raise UserError(f"Cannot read {name}: {error.strerror or error}.", "Check the file.") from error


def _lines(name: str, lines: tuple[int, ...]) -> Where:
    return lambda index: f"{name}, line {lines[index]}"


def _rows(place: Path, name: str, form: str, columns: Columns) -> Iterator[Row]:
    with open(place, encoding="utf-8-sig", newline="" if form in DELIMITERS else None) as file:
        if form in DELIMITERS:
            yield from _table(file, name, form, columns)
        elif form == "jsonl":
            yield from _objects(file, name, columns)
        elif form == LINES:
            yield from ((line, raw.rstrip("\n"), None) for line, raw in enumerate(file, start=1))
        else:
            yield from _paragraphs(file)


def _table(file: Iterable[str], name: str, form: str, columns: Columns) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(file, delimiter=DELIMITERS[form], strict=True)
    line = 1
    try:
        header = next(filter(None, reader), None)  # a blank line is no row
        if header is None:
            return
        require_columns(columns.wanted, header, name, columns.remedy)
        places = [header.index(column) for column in columns.wanted]
        line = reader.line_num + 1  # where the next row starts: a quoted cell may span lines
        for row in reader:
            if row and len(row) != len(header):
                what = "tabs" if form == "tsv" else "commas"
                raise UserError(
                    f"{name}, line {line}: {len(row)} cells under {len(header)} columns.",
                    f"Quote cells that hold {what} or line breaks.",
                )
            if row:
                yield line, row[places[0]], row[places[1]] if columns.label else None
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{name}, line {line}: not valid {form.upper()} ({error}).", "Check the quotes.") from error


def _objects(file: Iterable[str], name: str, columns: Columns) -> Iterator[Row]:
    for line, row in json_lines(file, name):
        require_columns(columns.wanted, row, f"{name}, line {line}", columns.remedy)
        yield line, row[columns.text], row[columns.label] if columns.label else None


def json_lines(file: Iterable[str], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The object on each line that is not blank, and the line's number. UserError for a line that holds none."""
    for line, raw in enumerate(file, start=1):
        if not raw.strip():
            continue
        where = f"{name}, line {line}"
        try:
            row = parse_json(raw)
        except RepeatedKey as error:
            raise UserError(
                f"{where} has two columns named {error.key!r}.", "Give each column a name of its own."
            ) from None
        except ValueError as error:
            message = getattr(error, "msg", str(error))
            raise UserError(f"{where}: not valid JSON ({message}).", "One object on each line.") from error
        if not isinstance(row, dict):
            raise UserError(f"{where}: not a JSON object.", "One object on each line.")
        yield line, row


def _paragraphs(file: Iterable[str]) -> Iterator[Row]:
    start = 0
    block: list[str] = []
    for line, raw in enumerate(file, start=1):
        if text := " ".join(raw.split()):
            start = start if block else line
            block.append(text)
        elif block:
            yield start, " ".join(block), None
            block = []
    if block:
        yield start, " ".join(block), None


def _parquet(place: Path, name: str, columns: Columns, at_once: int | None) -> Iterator[Piece]:
    with parquet_file(place, name) as file:
        require_columns(columns.wanted, file.schema_arrow.names, name, columns.remedy)
        if at_once is None or file.metadata.num_rows <= at_once:
            yield _columns_of(file.read(columns=columns.wanted), name, columns)
            return
        above = 0
        for batch in parquet_batches(file, columns.wanted, at_once):
            yield _columns_of(batch, name, columns, above)
            above += batch.num_rows


def _columns_of(rows: Any, name: str, columns: Columns, above: int = 0) -> Piece:
    texts, labels = rows[columns.text], rows[columns.label] if columns.label else None
    if not are_strings(texts.type):
        raise UserError(f"{name}: the column {columns.text!r} holds {texts.type}, not strings.", columns.remedy)
    return Piece(texts, labels, lambda index: f"{name}, row {above + index + 1}")
