"""From columns to a checked `Loaded`: the one place where texts, labels and ids are verified."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlm.data.sources.base import Loaded, require_columns
from tlm.data.sources.values import WHOLE_CHARACTERS, Where, half_character, label_names, sorted_names
from tlm.data.sources.visible import shows_nothing
from tlm.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


ROWS_AT_ONCE = 65_536
"""Of a file that is read in pieces, if it has more."""


def rows_of(name: str, above: int = 0) -> Where:
    """Row numbers as people count them, from 1, in a piece that has `above` rows of its file before it."""
    return lambda index: f"{name}, row {above + index + 1}"


def read_parquet(place: Path, name: str, columns: Sequence[str]) -> pa.Table:
    """Some columns of a Parquet file.

    Raises:
        UserError: not a readable Parquet file, or a column is missing (naming those that exist).
    """
    with parquet_file(place, name) as file:
        require_columns(columns, file.schema_arrow.names, name)
        return file.read(columns=list(columns))


def parquet_pieces(place: Path, name: str, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
    """Some columns of a Parquet file, piece by piece, each with the number of rows before it.

    Raises:
        UserError: not a readable Parquet file, or a column is missing (naming those that exist).
    """
    import pyarrow as pa

    with parquet_file(place, name) as file:
        require_columns(columns, file.schema_arrow.names, name)
        if file.metadata.num_rows <= ROWS_AT_ONCE:
            yield 0, file.read(columns=list(columns))
            return
        above = 0
        for batch in parquet_batches(file, columns, ROWS_AT_ONCE):
            yield above, pa.table(batch.columns, names=batch.schema.names)
            above += batch.num_rows


def parquet_batches(file: pq.ParquetFile, columns: Sequence[str], at_once: int) -> Iterator[pa.RecordBatch]:
    """At most `at_once` rows at a time, with one group of the file's rows in memory: asked for all, Arrow reads ahead."""
    for group in range(file.num_row_groups):
        yield from file.iter_batches(batch_size=at_once, columns=list(columns), row_groups=[group])


def pieces_of(table: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """A table, which may lie on the disk, piece by piece, each with the number of rows before it."""
    if table.num_rows <= ROWS_AT_ONCE:
        yield 0, table
        return
    for above in range(0, table.num_rows, ROWS_AT_ONCE):
        yield above, table.slice(above, ROWS_AT_ONCE)


@contextmanager
def parquet_file(place: Path, name: str) -> Iterator[pq.ParquetFile]:
    """An open Parquet file. UserError for what goes wrong while it is, if the file is damaged or none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # ParquetFile, not read_table: a folder named key=value must not become a column.
        with pq.ParquetFile(place, pre_buffer=False) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last of a column's name
        message = str(error).splitlines()[0]
        raise UserError(f"{name}: not a readable Parquet file ({message}).", "Replace it with a whole one.") from error


def parquet_rows(place: Path, name: str) -> int:
    """Number of rows, from the file's metadata alone."""
    with parquet_file(place, name) as file:
        return int(file.metadata.num_rows)


def part(
    split: str,
    texts: Any,
    where: Where,
    *,
    labels: Any = None,
    indices: Any = None,
    ids: Any = None,
    prefix: str = "",
    above: int = 0,
    drop_empty: bool = False,
) -> pa.Table:
    """One part of a source as item_id, text, split and, given `labels` or `indices`, label (not yet coded).

    Args:
        texts, labels, indices, ids: Arrow columns or sequences of equal length; ids default to `prefix:row` (row from
            `above`). `labels` are names as they stand in the source (`values.label_name`), `indices` point into names that
            it has beside them.
        drop_empty: leave empty texts out instead of refusing them (published dumps that nobody here can mend).
    Raises:
        UserError: as `texts_of`, or a null id, or a label that is missing or can be none, with the place of the first one.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    text = _strings(texts, where, "text")
    blank = _blank(text)
    if not drop_empty:
        _refuse(blank, where, "the text is empty", "Fill it in, or leave the row out.")
    if ids is None:
        ids = [f"{prefix}:{row}" for row in range(above, above + len(text))]
    columns: dict[str, Any] = {
        "item_id": _strings(ids, where, "id"),
        "text": text,
        "split": pa.array([split] * len(text), pa.string()),
    }
    if labels is not None:
        values = labels
        if isinstance(labels, (pa.Array, pa.ChunkedArray)):
            values = (_strings(labels, where, "label") if are_strings(labels.type) else labels).to_pylist()
        columns["label"] = _strings(label_names(values, where), where, "label")
    elif indices is not None:
        columns["label"] = indices if isinstance(indices, (pa.Array, pa.ChunkedArray)) else pa.array(indices)
    if "label" in columns:
        _refuse(pc.is_null(columns["label"]), where, "the label is missing", "Give every row a label, or leave it out.")
    _refuse(pc.is_null(columns["item_id"]), where, "the id is missing", "Give every row its id.")
    table = pa.table(columns)
    return table.filter(pc.invert(blank)) if drop_empty else table


def texts_of(values: Any, where: Where) -> Any:
    """Texts as an Arrow column of strings.

    Raises:
        UserError: a text that is not a string, is not UTF-8, holds half a character, is empty (missing, or only white
            space) or has no visible character, with the place of the first one.
    """
    text = _strings(values, where, "text")
    _refuse(_blank(text), where, "the text is empty", "Fill it in, or leave the row out.")
    _refuse(shows_nothing(text), where, "the text has no visible character", "Fill it in, or leave the row out.")
    return text


def are_strings(kind: pa.DataType) -> bool:
    """Whether a column of this type holds strings, perhaps as a dictionary of them, or nothing at all."""
    import pyarrow as pa

    kind, types = kind.value_type if pa.types.is_dictionary(kind) else kind, pa.types
    return any(of(kind) for of in (types.is_string, types.is_large_string, types.is_string_view, types.is_null))


def _blank(text: Any) -> Any:
    import pyarrow.compute as pc

    return pc.fill_null(pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(text)), 0), True)


def _strings(values: Any, where: Where, what: str) -> Any:
    import pyarrow as pa

    if not isinstance(values, (pa.Array, pa.ChunkedArray)):
        return _encoded(values, where, what)
    if not are_strings(values.type):
        remedy = "Choose a column of strings." if what == "text" else "Write the ids as strings."
        raise UserError(f"{where(0).rsplit(', ', 1)[0]}: the {what} column holds {values.type}, not strings.", remedy)
    text = values.cast(pa.string())
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        _refuse_bytes(text, where, what)
    return text


def _encoded(values: Sequence[Any], where: Where, what: str) -> Any:
    """A column of Python's strings, None among them."""
    import pyarrow as pa

    for index, value in enumerate(values):
        if value is not None and not isinstance(value, str):
            raise UserError(f"{where(index)}: the {what} is a {type(value).__name__}.", f"A {what} is a string.")
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        halves = [(index, half) for index, value in enumerate(values) if value and (half := half_character(value))]
        (index, half), more = halves[0], _more(len(halves))
        raise UserError(
            f"{where(index)}: the {what} holds half a character ({half}){more}.", WHOLE_CHARACTERS
        ) from None


def _refuse_bytes(text: Any, where: Where, what: str) -> None:
    import pyarrow as pa

    for index, raw in enumerate(text.cast(pa.binary()).to_pylist()):
        try:
            (raw or b"").decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{where(index)}: the {what} is not UTF-8 (byte {error.start} of it).", "Save it as UTF-8."
            ) from None


def _refuse(mask: Any, where: Where, problem: str, remedy: str) -> None:
    import pyarrow.compute as pc

    first = pc.index(mask, True).as_py()
    if first >= 0:
        raise UserError(f"{where(first)}: {problem}{_more(pc.sum(mask).as_py())}.", remedy)


def _more(count: int) -> str:
    return f" (and {count - 1} more)" if count > 1 else ""


def loaded(
    parts: Sequence[pa.Table],
    source_name: str,
    label_names: Sequence[str] | None = None,
    facts: Mapping[str, int | str] | None = None,
) -> Loaded:
    """Join parts that are all in memory; code their labels, if they have any, as int32.

    With `label_names`, labels are already indices into them; without, they are names, and those found are sorted
    (`values.sorted_names`).

    Raises:
        UserError: no item at all, an id that occurs twice, or a label outside `label_names`.
    """
    if any("label" in p.column_names for p in parts) and label_names is None:
        parts, label_names = _code(parts)
    if label_names is not None:
        parts = [_coded(p, source_name, len(label_names)) for p in parts]
    checked = list(_checked(parts, source_name))
    return Loaded(checked, tuple(label_names) if label_names is not None else None, dict(facts or {}))


def unlabelled(parts: Iterable[pa.Table], source_name: str, facts: dict[str, int | str] | None = None) -> Loaded:
    """What has no labels and is read while it is gone through, which may also add to `facts`.

    Raises:
        UserError: while its parts are gone through: what `parts` raises, no item at all, or an id that occurs twice.
    """
    return Loaded(_checked(parts, source_name), None, {} if facts is None else facts)


def _checked(parts: Iterable[pa.Table], source_name: str) -> Iterator[pa.Table]:
    import pyarrow as pa
    import pyarrow.compute as pc

    ids: list[pa.Array] = []
    for table in parts:
        ids += table["item_id"].chunks
        yield table.replace_schema_metadata(None)
    column = pa.chunked_array(ids, pa.string())
    if not len(column):
        raise UserError(f"{source_name} holds no item.", "Check that the file is the right one and whole.")
    if len(doubtful := _of_equal_hashes(column)):
        counts = pc.value_counts(doubtful)
        twice = counts.filter(pc.greater(counts.field("counts"), 1))
        if len(twice):
            raise UserError(
                f"{source_name}: the id {twice[0]['values'].as_py()!r} occurs more than once.", "Make the ids unique."
            )


def _of_equal_hashes(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """The ids that share their hash with another: with those that occur twice, few. A table of all ids takes more room."""
    import numpy as np
    import pandas as pd

    hashes = np.concatenate(
        [pd.util.hash_array(chunk.to_numpy(zero_copy_only=False), categorize=False) for chunk in ids.chunks]
    )
    ordered = np.sort(hashes)
    shared = ordered[1:][ordered[1:] == ordered[:-1]]
    return ids.filter(np.isin(hashes, shared)) if len(shared) else ids.slice(0, 0)


def _coded(table: pa.Table, source_name: str, names: int) -> pa.Table:
    """With labels of int32, all of which are below `names`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = _indices(table, source_name)
    bounds = pc.min_max(table["label"]).as_py()
    if table.num_rows and (bounds["min"] < 0 or bounds["max"] >= names):
        wrong = bounds["min"] if bounds["min"] < 0 else bounds["max"]
        raise UserError(
            f"{source_name}: the label {wrong} is not one of the {names} known (from 0).",
            "Check the labels against the label names.",
        )
    return table.set_column(table.column_names.index("label"), "label", table["label"].cast(pa.int32()))


def _indices(table: pa.Table, source_name: str) -> pa.Table:
    """One integer type for every part, so that parts written with different widths join."""
    import pyarrow as pa

    label = table["label"]
    if not pa.types.is_integer(label.type):
        raise UserError(f"{source_name}: the labels are {label.type}, not indices.", "Use whole numbers.")
    try:
        indices = label.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise UserError(
            f"{source_name}: a label is no index ({error}).", "Check the labels against the label names."
        ) from error
    return table.set_column(table.column_names.index("label"), "label", indices)


def _code(parts: Sequence[pa.Table]) -> tuple[list[pa.Table], list[str]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    names = sorted_names(name for p in parts for name in p["label"].unique().to_pylist())
    known = pa.array(names, pa.string())
    coded = [p.set_column(p.column_names.index("label"), "label", pc.index_in(p["label"], known)) for p in parts]
    return coded, names
