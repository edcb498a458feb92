"""From columns to a checked `Loaded`: the one place where texts, labels and ids are verified."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlm.data.sources.base import Loaded, require_columns
from tlm.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

# Says where row i (0-based) of a part is, for an error: "ag_news/train.parquet, row 18".
Where = Callable[[int], str]


def rows_of(name: str) -> Where:
    """Row numbers as people count them, from 1."""
    return lambda index: f"{name}, row {index + 1}"


def read_parquet(place: Path, name: str, columns: Sequence[str]) -> pa.Table:
    """Some columns of a Parquet file.

    Raises:
        UserError: not a readable Parquet file, or a column is missing (naming those that exist).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # ParquetFile, not read_table: a folder named key=value must not become a column.
        with pq.ParquetFile(place) as file:
            require_columns(columns, file.schema_arrow.names, name)
            return file.read(columns=list(columns))
    except (pa.ArrowException, OSError) as error:
        message = str(error).splitlines()[0]
        raise UserError(f"{name}: not a readable Parquet file ({message}).", "Replace it with a whole one.") from error


def parquet_rows(place: Path, name: str) -> int:
    """Number of rows, from the file's metadata alone."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(place).num_rows)
    except (pa.ArrowException, OSError) as error:
        message = str(error).splitlines()[0]
        raise UserError(f"{name}: not a readable Parquet file ({message}).", "Replace it with a whole one.") from error


def part(
    split: str,
    texts: Any,
    where: Where,
    *,
    labels: Any = None,
    ids: Any = None,
    prefix: str = "",
    drop_empty: bool = False,
) -> pa.Table:
    """One part of a source as item_id, text, split and, given `labels`, label (not yet coded).

    Args:
        texts, labels, ids: Arrow columns or sequences of equal length; ids default to `prefix:row` (row from 0).
        drop_empty: leave empty texts out instead of refusing them (published dumps that nobody here can mend).
    Raises:
        UserError: a text that is not a string or is empty, or a null label or id, with the place of the first one.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    text = _strings(texts, where, "text")
    blank = pc.fill_null(pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(text)), 0), True)
    if ids is None:
        ids = [f"{prefix}:{row}" for row in range(len(text))]
    columns: dict[str, Any] = {
        "item_id": _strings(ids, where, "id"),
        "text": text,
        "split": pa.array([split] * len(text), pa.string()),
    }
    if labels is not None:
        columns["label"] = labels if isinstance(labels, (pa.Array, pa.ChunkedArray)) else _labels(labels, where)
        _refuse(pc.is_null(columns["label"]), where, "the label is missing", "Give every row a label, or leave it out.")
    if not drop_empty:
        _refuse(blank, where, "the text is empty", "Fill it in, or leave the row out.")
    _refuse(pc.is_null(columns["item_id"]), where, "the id is missing", "Give every row its id.")
    table = pa.table(columns)
    return table.filter(pc.invert(blank)) if drop_empty else table


def _strings(values: Any, where: Where, what: str) -> Any:
    import pyarrow as pa

    if not isinstance(values, (pa.Array, pa.ChunkedArray)):
        return pa.array(values, pa.string())
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        remedy = "Choose a column of strings." if what == "text" else "Write the ids as strings."
        raise UserError(f"{where(0).rsplit(', ', 1)[0]}: the {what} column holds {values.type}, not strings.", remedy)
    return values.cast(pa.string())


def _labels(values: Sequence[Any], where: Where) -> Any:
    import pyarrow as pa

    for index, value in enumerate(values):
        if value is not None and not isinstance(value, (str, int)):
            raise UserError(
                f"{where(index)}: the label is a {type(value).__name__}.", "Labels are strings or whole numbers."
            )
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) > 1:  # 1 and "1" in one file: read as the same label, as CSV would have it
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    return pa.array(values)


def _refuse(mask: Any, where: Where, problem: str, remedy: str) -> None:
    import pyarrow.compute as pc

    first = pc.index(mask, True).as_py()
    if first >= 0:
        count = pc.sum(mask).as_py()
        more = f" (and {count - 1} more)" if count > 1 else ""
        raise UserError(f"{where(first)}: {problem}{more}.", remedy)


def loaded(
    parts: Sequence[pa.Table],
    source_name: str,
    label_names: Sequence[str] | None = None,
    facts: Mapping[str, int | str] | None = None,
) -> Loaded:
    """Join parts; code the labels as int32.

    With `label_names`, labels are already indices into them; without, the names are the distinct labels found, sorted
    (numerically if all are whole numbers).

    Raises:
        UserError: no item at all, an id that occurs twice, or a label outside `label_names`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if any("label" in p.column_names for p in parts) and label_names is None:
        parts, label_names = _code(parts)
    if label_names is not None:
        parts = [_indices(p, source_name) for p in parts]
    table = pa.concat_tables(parts) if parts else None
    if table is None or table.num_rows == 0:
        raise UserError(f"{source_name} holds no item.", "Check that the file is the right one and whole.")
    ids = table["item_id"]
    if pc.count_distinct(ids).as_py() != table.num_rows:
        counts = pc.value_counts(ids)
        twice = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"].as_py()
        raise UserError(f"{source_name}: the id {twice!r} occurs more than once.", "Make the ids unique.")
    if label_names is not None:
        bounds = pc.min_max(table["label"]).as_py()
        if bounds["min"] < 0 or bounds["max"] >= len(label_names):
            wrong = bounds["min"] if bounds["min"] < 0 else bounds["max"]
            raise UserError(
                f"{source_name}: the label {wrong} is not one of the {len(label_names)} known (from 0).",
                "Check the labels against the label names.",
            )
        table = table.set_column(table.column_names.index("label"), "label", table["label"].cast(pa.int32()))
    return Loaded(
        table.replace_schema_metadata(None), tuple(label_names) if label_names is not None else None, facts or {}
    )


def _indices(table: pa.Table, source_name: str) -> pa.Table:
    """One integer type for every part, so that parts written with different widths join."""
    import pyarrow as pa

    label = table["label"]
    if not pa.types.is_integer(label.type):
        raise UserError(f"{source_name}: the labels are {label.type}, not indices.", "Use whole numbers.")
    return table.set_column(table.column_names.index("label"), "label", label.cast(pa.int64()))


def _code(parts: Sequence[pa.Table]) -> tuple[list[pa.Table], list[str]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = [pc.cast(p["label"], pa.string()) for p in parts]
    distinct = {name for column in texts for name in column.unique().to_pylist()}
    names = sorted(distinct)
    if all(name.lstrip("-").isdecimal() for name in names):
        names.sort(key=lambda name: (int(name), name))
    known = pa.array(names, pa.string())
    coded = [
        p.set_column(p.column_names.index("label"), "label", pc.index_in(column, known))
        for p, column in zip(parts, texts, strict=True)
    ]
    return coded, names
