"""Writing small source files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from tlm.data import sources
from tlm.study.sources import FilesSource

TABLES = ("csv", "tsv", "jsonl", "parquet")
Rows: TypeAlias = "list[tuple[str | None, Any]]"


def write_parquet(place: Path, **columns: object) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), place)
    return place


def write(place: Path, text: str) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, encoding="utf-8")
    return place


def put(folder: Path, form: str, rows: Rows, columns: tuple[str, ...] = ("text", "y")) -> Path:
    """The rows in a file of a format: None is what the format has for a missing value."""
    place = folder / f"items.{form}"
    if form == "parquet":
        kinds = [pa.array([row[at] for row in rows], None if at == 0 else label_type(rows)) for at in (0, 1)]
        pq.write_table(pa.Table.from_arrays(kinds, names=list(columns)), place)
    elif form == "jsonl":
        pairs = (", ".join(f"{json.dumps(c)}: {json.dumps(v)}" for c, v in zip(columns, row)) for row in rows)
        place.write_text("".join(f"{{{pair}}}\n" for pair in pairs), encoding="utf-8")
    else:
        with open(place, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="," if form == "csv" else "\t")
            writer.writerows([columns, *(["" if v is None else v for v in row] for row in rows)])
    return place


def label_type(rows: Rows) -> pa.DataType | None:
    """Parquet has one type for a column: integers if all are, and fit; else strings, as JSON's numbers are read."""
    found = {type(row[1]) for row in rows if row[1] is not None}
    fits = all(-(2**63) <= row[1] < 2**63 for row in rows if isinstance(row[1], int))
    return pa.int64() if found == {int} and fits else pa.string()


def as_parquet_has_them(rows: Rows) -> Rows:
    as_text = label_type(rows) == pa.string()
    return [(text, str(label) if as_text and label is not None else label) for text, label in rows]


def read(folder: Path, form: str, **fields: Any) -> sources.Loaded:
    given = {"format": form, "path": f"items.{form}", "label_column": "y", **fields}
    return sources.read(FilesSource.model_validate(given), str(folder))
