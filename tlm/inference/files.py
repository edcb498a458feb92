"""Files of texts to predict, and files of predictions: both are streamed, so that neither has to fit into memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from tlm.data.sources.base import require_columns
from tlm.data.sources.files import SUFFIXES, csv_rows, jsonl_rows
from tlm.errors import UserError

if TYPE_CHECKING:
    from tlm.inference.models import Predicted

Placed = Iterator[tuple[str, str | None]]
"""Where a text stands in its file, and the text."""

ROWS_AT_ONCE = 4_096
COLUMN_WAY_OUT = "Name the column that holds the texts with --column."
WRITERS: dict[str, Callable[..., Any]] = {
    ".parquet": lambda sink, schema: pq.ParquetWriter(sink, schema, compression="zstd"),
    ".csv": lambda sink, schema: pa_csv.CSVWriter(sink, schema),
}


# --- texts ---


def has_columns(path: Path) -> bool:
    """Whether a file is a table (CSV, JSON lines, Parquet); any other holds one text a line."""
    return path.suffix.lower() in {*SUFFIXES["csv"], *SUFFIXES["jsonl"], *SUFFIXES["parquet"]}


def read_texts(path: Path, column: str = "text") -> Iterator[str]:
    """The texts of a file, as it is read: one a line, or those in `column` of a table.

    Raises:
        UserError: if the file cannot be read as what its name says, lacks the column, or holds an empty text (where).
    """
    try:
        for place, text in _placed(path, column):
            if text is None or not text.strip():
                raise UserError(f"{path}, {place}: the text is empty.", "Fill it in, or leave it out.")
            yield text
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 (byte {error.start}).", "Save the file as UTF-8.") from error
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.", "Check the file.") from error


def count_texts(path: Path, column: str = "text") -> int:
    """How many texts a file holds, each of them checked. Raises UserError as `read_texts`, and if there is none."""
    if not path.is_file():
        raise UserError(f"{path}: {'not a file' if path.exists() else 'no such file'}.", "Give a file of texts.")
    count = sum(1 for _ in read_texts(path, column))
    if not count:
        raise UserError(
            f"{path} holds no text.", "Give a file with one text a line, or a table with a column of texts."
        )
    return count


def check_texts(texts: Iterable[str], shown_as: str) -> None:
    """Raises UserError if one of them is empty."""
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            raise UserError(f"{shown_as} number {number}: the text is empty.", "Fill it in, or leave it out.")


def _placed(path: Path, column: str) -> Placed:
    suffix = path.suffix.lower()
    if suffix in SUFFIXES["parquet"]:
        return _parquet(path, column)
    if suffix in SUFFIXES["csv"]:
        return ((f"line {line}", text) for line, text, _ in csv_rows(path, str(path), column, remedy=COLUMN_WAY_OUT))
    if suffix in SUFFIXES["jsonl"]:
        return ((f"line {line}", text) for line, text, _ in jsonl_rows(path, str(path), column, remedy=COLUMN_WAY_OUT))
    return _lines(path)


def _lines(path: Path) -> Placed:
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            yield f"line {number}", line.rstrip("\n")


def _parquet(path: Path, column: str) -> Placed:
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            require_columns([column], schema.names, str(path), COLUMN_WAY_OUT)
            kind = schema.field(column).type
            kind = kind.value_type if pa.types.is_dictionary(kind) else kind
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
                raise UserError(f"{path}: the column {column!r} holds {kind}, not strings.", COLUMN_WAY_OUT)
            above = 0
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=[column]):
                for row, text in enumerate(batch.column(0).to_pylist(), start=above + 1):
                    yield f"row {row}", text
                above += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        message = str(error).splitlines()[0]
        raise UserError(f"{path}: not a readable Parquet file ({message}).", "Replace it with a whole one.") from error


# --- predictions ---


def schema_of(top: int, about: Mapping[str, str] | None = None) -> pa.Schema:
    """text, label, probability and, for `top` > 1, label_2, probability_2, …; `about` is kept in the file's metadata."""
    fields = [("text", pa.string())]
    for rank in range(1, top + 1):
        end = "" if rank == 1 else f"_{rank}"
        fields += [(f"label{end}", pa.string()), (f"probability{end}", pa.float64())]
    return pa.schema(fields, metadata=dict(about or {}))


def prediction_table(texts: list[str], predicted: Predicted, labels: tuple[str, ...], schema: pa.Schema) -> pa.Table:
    """The rows of `texts`, in their order, with as many labels as the schema has columns for."""
    best_NK = predicted.best((len(schema) - 1) // 2)
    names = pa.array(labels, pa.string())
    columns: list[Any] = [pa.array(texts, pa.string())]
    for choice_N in best_NK.T:
        chosen = predicted.probabilities_NC[range(len(texts)), choice_N]
        columns += [names.take(pa.array(choice_N)), pa.array(chosen)]
    return pa.Table.from_arrays(columns, schema=schema)


def check_output(path: Path) -> None:
    """Raises UserError unless `path` can become a file of predictions; writes nothing."""
    if path.suffix.lower() not in WRITERS:
        raise UserError(f"--out {path}: unknown kind of file.", f"Its name must end in {' or '.join(WRITERS)}.")
    if path.is_dir() or not path.absolute().parent.is_dir():
        problem = "is a folder" if path.is_dir() else "its folder does not exist"
        raise UserError(f"--out {path}: {problem}.", "Give a file in a folder that exists.")


@contextmanager
def prediction_writer(path: Path, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    """Write tables as they come; the file appears when the block ends, and not at all if it fails.

    Raises:
        UserError: if it cannot be written (permissions, a full disk).
    """
    draft = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        with open(draft, "xb") as sink, _writer(path, sink, schema) as writer:
            yield writer.write_table
        os.replace(draft, path)
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror or error}.", "Choose another place.") from error
    finally:
        draft.unlink(missing_ok=True)


def _writer(path: Path, sink: BinaryIO, schema: pa.Schema) -> Any:
    return WRITERS[path.suffix.lower()](sink, schema)
