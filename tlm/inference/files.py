"""Files of texts to predict, and files of predictions: both are streamed, so that neither has to fit into memory."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from tlm.data.sources.formats import LINES, SUFFIXES, TABLES, Columns, format_of, read_pieces
from tlm.data.sources.table import texts_of
from tlm.errors import UserError
from tlm.machine.interruption import removing

if TYPE_CHECKING:
    from tlm.inference.models import Predicted

ROWS_AT_ONCE = 4_096
FORMATS = (LINES, *TABLES)
COLUMN_WAY_OUT = "Name the column that holds the texts with --column."
STANDARD_INPUT = (Path("-"), Path("/dev/stdin"), Path("/dev/fd/0"), Path("/proc/self/fd/0"))
WRITERS: dict[str, Callable[..., Any]] = {
    ".parquet": lambda sink, schema: pq.ParquetWriter(sink, schema, compression="zstd"),
    ".csv": lambda sink, schema: pa_csv.CSVWriter(sink, schema),
}


# --- texts ---


@dataclass(frozen=True)
class Texts:
    """The texts of a file, read anew each time it is iterated over: one a line, or those in `column` of a table.

    Iterating raises UserError if the file cannot be read as what it is said to be, lacks the column, or holds a text that
    is empty, is not UTF-8 or holds half a character; with the line or row.
    """

    path: Path
    form: str
    """One of `FORMATS`."""
    shown_as: str
    column: str = "text"

    def __iter__(self) -> Iterator[str]:
        columns = Columns(self.column, remedy=COLUMN_WAY_OUT)
        for piece in read_pieces(self.path, self.shown_as, self.form, columns, ROWS_AT_ONCE):
            yield from texts_of(piece.texts, piece.where).to_pylist()

    def count(self) -> int:
        """How many texts there are, each of them checked. Raises UserError as iterating does, and if there is none."""
        count = sum(1 for _ in self)
        if not count:
            raise UserError(
                f"{self.shown_as} holds no text.", "Give one text a line, or a table with a column of texts."
            )
        return count


@contextmanager
def open_texts(path: Path, form: str | None = None, column: str | None = None) -> Iterator[Texts]:
    """The texts of a file, or of what a pipe or (as `-`) standard input brings, which is kept aside to be read twice.

    Args:
        form: one of `FORMATS`; by default what the file's name says, and for a pipe one text a line.
        column: of a table; by default `text`.
    Raises:
        UserError: if there is no such file, its name does not say what it holds, or a column is named of what has none.
    """
    given = path in STANDARD_INPUT
    form = _format(path, form, piped=given or path.is_fifo())
    if column is not None and form not in TABLES:
        raise UserError(
            f"--column {column}: the texts have no columns.",
            f"Use it with a table, or say with --format which kind it is: {', '.join(TABLES)}.",
        )
    shown_as = "standard input" if given else str(path)
    if given or path.is_fifo():
        with _kept_aside(path, shown_as) as copy:
            yield Texts(copy, form, shown_as, column or "text")
    else:
        yield Texts(path, form, shown_as, column or "text")


def check_texts(texts: Iterable[str], shown_as: str) -> None:
    """Raises UserError if one of them, given on a command line, is empty or not UTF-8."""
    given = list(texts)
    for number, text in enumerate(given, start=1):
        try:
            raw = text.encode("utf-8", "surrogateescape")  # a byte that is no UTF-8 comes as half a character
            raw.decode("utf-8")
        except UnicodeEncodeError:
            continue
        except UnicodeDecodeError as error:
            raise UserError(
                f"{shown_as} number {number}: not UTF-8 (byte {error.start} of it).", "Give it as UTF-8."
            ) from None
    texts_of(given, lambda index: f"{shown_as} number {index + 1}")


def _format(path: Path, asked: str | None, *, piped: bool) -> str:
    if asked is not None:
        if asked not in FORMATS:
            raise UserError(f"--format: unknown {asked!r}.", f"Choose from {', '.join(FORMATS)}.")
        return asked
    if piped:
        return LINES
    if not path.is_file():
        raise UserError(f"{path}: {'not a file' if path.exists() else 'no such file'}.", "Give a file of texts.")
    form = format_of(path)
    if form is None:
        what = f"files that end in {path.suffix} are not read" if path.suffix else "its name does not say what it holds"
        known = ", ".join(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
        raise UserError(
            f"{path}: {what}.", f"Save it as one that ends in {known}, or say with --format which kind it is."
        )
    return LINES if form == "text" else form


@contextmanager
def _kept_aside(path: Path, shown_as: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tlm-") as folder:
        copy = Path(folder) / "texts"
        try:
            with open(copy, "wb") as file:
                if path in STANDARD_INPUT:
                    shutil.copyfileobj(sys.stdin.buffer, file)
                else:
                    with _opened_pipe(path) as pipe:
                        shutil.copyfileobj(pipe, file)
        except (OSError, AttributeError, ValueError) as error:  # closed: None, or a ValueError
            why = getattr(error, "strerror", None) or "it is closed"
            raise UserError(f"Cannot read {shown_as} ({why}).", "Give a file of texts with --file.") from error
        yield copy


def _opened_pipe(path: Path) -> BinaryIO:
    """A pipe to read from, without waiting for somebody to write to it: if nobody does, it is empty."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)
    return open(descriptor, "rb")


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
        with removing(draft), open(draft, "xb") as sink, _writer(path, sink, schema) as writer:
            yield writer.write_table
        os.replace(draft, path)
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror or error}.", "Choose another place.") from error
    finally:
        draft.unlink(missing_ok=True)


def _writer(path: Path, sink: BinaryIO, schema: pa.Schema) -> Any:
    return WRITERS[path.suffix.lower()](sink, schema)
