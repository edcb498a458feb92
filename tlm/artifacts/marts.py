"""The marts: tables that SQL models make from records and the Parquet files of their artifacts, in a DuckDB connection.

Staging views read records and files while the marts are built; the marts themselves need neither. Records that no marts can
be built from (an imported number that fits no column, say) are found and named, so that the others can be used.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa

from tlm.artifacts.dry_runs import dry_runs
from tlm.artifacts.record import Record, in_time
from tlm.artifacts.sql_models import column_descriptions, description, model, models
from tlm.artifacts.step import Label
from tlm.artifacts.store import ArtifactStore
from tlm.artifacts.tables import Stages, Table
from tlm.errors import UserError
from tlm.machine.file_errors import file_error

Connection: TypeAlias = duckdb.DuckDBPyConnection
Labels: TypeAlias = Mapping[str, Mapping[str, Label]]
"""Step key → labels that replace those in its record."""
Files: TypeAlias = Callable[[Record, str], Path]
"""Where an artifact's file lies on this machine (`ArtifactStore.local_path`). Raises LookupError if it is gone."""
LABELS_FILE = "labels.json"
"""Of a report's artifact: what its study calls each of its steps."""

MARTS = (
    "runs",
    "lineage",
    "studies",
    "labels",
    "texts",
    "overlap",
    "token_counts",
    "injected_tokens",
    "metrics",
    "predictions",
    "confusions",
    "committee_curve",
    "committee_instances",
    "near_duplicates",
    "results",
    "gaps",
    "likelihood",
    "likelihood_items",
    "likelihood_groups",
    "likelihood_units",
)
"""In the order they are built: each may read those before it."""

# Nothing of DuckDB's may be fetched from a network behind the user's back.
SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}

SHOWN_ROWS = 3
"""Of a check's, in an error."""
CANNOT = "The catalogue cannot be built: "


class Unfit(UserError):
    """Marts cannot be built from these records."""


class CheckFailed(Unfit):
    """The artifacts contradict each other: a file of sql/checks returned rows."""


def in_memory() -> Connection:
    """An empty database of this process alone, which fetches nothing from a network."""
    return duckdb.connect(config=SETTINGS)


def build_memory(
    store: ArtifactStore, records: Iterable[Record], stages: Stages, labels: Labels | None = None
) -> Connection:
    """The marts in memory, of some records only: what a report is written from. The caller closes it.

    Args:
        stages: what the files of each stage hold (`tlm.stages.STAGES`).
        labels: what this study calls a step, where another study made it first under other names.

    Raises:
        UserError: naming the artifact that contradicts another one, or that no marts can be built from.
    """
    ordered = sorted(records, key=lambda record: str(record.ref))
    try:
        return _made_in_memory(store.local_path, ordered, stages, labels or {})
    except Unfit as error:
        _, left_out = fitting(store.local_path, in_time(ordered), stages)
        if not left_out:
            raise
        name, why = next(iter(left_out.items()))
        remedy = f"`tlm invalidate {name} --yes` removes it, and a run makes it again."
        raise UserError(f"{name} cannot be used: {why}.", remedy) from error


def fitting(files: Files, records: Sequence[Record], stages: Stages) -> tuple[list[Record], dict[str, str]]:
    """The records that marts can be built from together; and of the others, by name, why not.

    Of records that do not fit together, the later one is left out.

    Raises:
        Unfit: if no marts can be built at all, not even empty ones.
    """
    kept, left_out = list(records), dict[str, str]()
    while unfit := _first_unfit(files, kept, stages):
        position, why = unfit
        left_out[str(kept.pop(position).ref)] = why
    return kept, left_out


def make_marts(connection: Connection, files: Files, records: Sequence[Record], stages: Stages, labels: Labels) -> None:
    """Make every mart as a table of `connection`, and check them.

    Raises:
        Unfit: if a record or a file holds what the models cannot read, or the artifacts contradict each other.
        UserError: if there is too little room on the disk or in memory.
        LookupError: if an artifact is gone.
    """
    from tlm.artifacts.sql_functions import statistics_in_sql  # brings scipy, which reading a catalogue does not need

    with tempfile.TemporaryDirectory(prefix="tlm-catalogue-") as scratch:
        try:
            connection.register("raw_records", _record_table(records, stages, labels))
            staged = _stage_tables(connection, files, records, stages, Path(scratch))
            for name in models("staging"):
                connection.execute(f"create temp view {name} as {model('staging', name)}")
            with statistics_in_sql(connection):
                for name in MARTS:
                    connection.execute(f"create table main.{name} as {model('marts', name)}")
            for name in (*models("staging"), *staged):
                connection.execute(f"drop view {name}")
            _check(connection)
        except (duckdb.OutOfMemoryException, duckdb.InterruptException) as error:  # no record is at fault
            raise UserError(f"{CANNOT}{one_line(error)}.") from error
        except (duckdb.Error, pa.ArrowException, ValueError) as error:
            if told := file_error(error, scratch):
                raise told from error
            raise Unfit(f"{CANNOT}{one_line(error)}.") from error
    for name in ("raw_records", "raw_files"):
        connection.unregister(name)


def describe(connection: Connection) -> None:
    """Say of every mart, and of each of its columns, what it is: a comment that whoever opens the database sees."""
    for name in MARTS:
        said = {f"table main.{name}": description(name)}
        said |= {f"column main.{name}.{column}": meaning for column, meaning in column_descriptions(name).items()}
        comment(connection, said)


def comment(connection: Connection, said: Mapping[str, str]) -> None:
    """Comment on tables and columns, as "table main.runs" or "column main.runs.key"."""
    connection.execute("; ".join(f"comment on {what} is {literal(meaning)}" for what, meaning in said.items()))


def literal(text: str) -> str:
    """A string of SQL."""
    return "'" + text.replace("'", "''") + "'"


def one_line(error: Exception) -> str:
    """What DuckDB complains of, without the piece of SQL and the full stop."""
    return " ".join(str(error).partition("\n\nLINE ")[0].split()).rstrip(".")


# --- inside ---


def _made_in_memory(files: Files, records: Sequence[Record], stages: Stages, labels: Labels) -> Connection:
    connection = in_memory()
    try:
        make_marts(connection, files, records, stages, labels)
    except BaseException:
        connection.close()
        raise
    return connection


def _first_unfit(files: Files, records: Sequence[Record], stages: Stages) -> tuple[int, str] | None:
    """The position of the first record that does not go together with those before it, and the reason; found by halves."""
    error = _try(files, records, stages)
    if error is None:
        return None
    if nothing := _try(files, [], stages):
        raise nothing
    fit, unfit = 0, len(records)  # marts can be built from the first `fit` of them, and not from the first `unfit`
    while unfit - fit > 1:
        middle = (fit + unfit) // 2
        found = _try(files, records[:middle], stages)
        fit, unfit, error = (fit, middle, found) if found else (middle, unfit, error)
    return unfit - 1, error.problem.removeprefix(CANNOT).rstrip(".")


def _try(files: Files, records: Sequence[Record], stages: Stages) -> Unfit | None:
    try:
        _made_in_memory(files, records, stages, {}).close()
    except Unfit as error:
        return error
    return None


def _record_table(records: Sequence[Record], stages: Stages, labels: Labels) -> pa.Table:
    rows, dry = [], dry_runs(records)
    for record in records:
        row = {**record.model_dump(mode="json"), "path": f"data/artifacts/{record.ref}"}
        row["labels"] = {**record.labels, **labels.get(record.key, {})}
        row["role"] = stages[record.stage].role if record.stage in stages else None
        row["dry_run"] = record.key in dry
        rows.append({name: _text(value) for name, value in row.items()})
    return pa.Table.from_pylist(
        rows, pa.schema([(name, pa.string()) for name in (*Record.model_fields, "path", "role", "dry_run")])
    )


def _stage_tables(
    connection: Connection, files: Files, records: Sequence[Record], stages: Stages, scratch: Path
) -> list[str]:
    """Make a view `stg_<table>` of every table that a stage declares: its columns, and the key of the artifact."""
    paths: dict[Table, list[str]] = {}
    owners: dict[str, str] = {}
    for kind in stages.values():
        paths |= {table: [] for table in kind.outputs.values() if table}
    for record in records:
        declared = stages[record.stage].outputs if record.stage in stages else {}
        for file, table in declared.items():
            if table and file in record.outputs:
                path = str(files(record, file))
                owners[path] = record.key
                paths[table].append(_as_glob(path))
    columns = {"path": pa.array(owners, pa.string()), "key": pa.array(owners.values(), pa.string())}
    connection.register("raw_files", pa.table(columns))
    for table, own in paths.items():
        typed = ", ".join(f"null::{kind} as {name}" for name, kind in table.columns.items())
        if not own:
            connection.execute(f"create temp view stg_{table.name} as select null::varchar as key, {typed} limit 0")
            continue
        # An empty file comes first: it gives the types.
        empty = scratch / f"{table.name}.parquet"
        connection.execute(f"copy (select {typed} limit 0) to {literal(str(empty))} (format parquet)")
        listed = ", ".join(literal(path) for path in (str(empty), *own))
        cast = ", ".join(f"contents.{name}::{kind} as {name}" for name, kind in table.columns.items())
        read = f"read_parquet([{listed}], union_by_name = true, filename = true, hive_partitioning = false)"
        connection.execute(
            f"create temp view stg_{table.name} as select files.key, {cast} "  # noqa: S608 – `Table` checks its words
            f"from {read} as contents left join raw_files as files on contents.filename = files.path"
        )
    return [f"stg_{table.name}" for table in paths]


def _check(connection: Connection) -> None:
    for name in models("checks"):
        found = connection.sql(model("checks", name)).to_arrow_table()
        if found.num_rows:
            rows = "; ".join(str(row) for row in found.slice(0, SHOWN_ROWS).to_pylist())
            more = f" and {found.num_rows - SHOWN_ROWS} more" if found.num_rows > SHOWN_ROWS else ""
            raise CheckFailed(
                f"The artifacts contradict each other: check {name} found {rows}{more}.",
                "Check them with `tlm verify`, or make them anew with `tlm invalidate`.",
            )


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, sort_keys=True)


def _as_glob(path: str) -> str:
    """A pattern that only this path matches: read_parquet takes every path for one."""
    return re.sub(r"([*?\[])", r"[\1]", path)
