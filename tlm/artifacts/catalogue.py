"""The DuckDB catalogue: a view of the records that can be thrown away and rebuilt.

The models are files under sql/ (see its README). Staging views read records and Parquet outputs while the catalogue is
built; the marts are tables inside the file, so that it opens from any directory and survives a move of the project.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa
from filelock import FileLock

from tlm.artifacts.step import Label
from tlm.artifacts.store import ArtifactStore, Record
from tlm.artifacts.tables import Stages, Table
from tlm.errors import UserError
from tlm.machine.runtime import PACKAGE_PARENT

Connection: TypeAlias = duckdb.DuckDBPyConnection
Labels: TypeAlias = Mapping[str, Mapping[str, Label]]
"""Step key → labels that replace those in its record."""
LABELS_FILE = "labels.json"
"""Of a report's artifact: what its study calls each of its steps."""

MARTS = (
    "runs",
    "lineage",
    "texts",
    "overlap",
    "token_counts",
    "injected_tokens",
    "metrics",
    "predictions",
    "committee_curve",
    "committee_instances",
    "near_duplicates",
    "results",
    "gaps",
)
"""In the order they are built: each may read those before it."""

READS_ONLY = "A query reads the catalogue's own tables and no file; --csv prints a result that can be kept."
ATTEMPTS = 3
# Nothing of DuckDB's may be fetched from a network behind the user's back.
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
# A reader's SQL is foreign: it reads the marts, no file or variable of this process, and cannot unlock itself.
_LOCKED = (
    *("temp_directory = ''", "python_enable_replacements = false", "enable_external_access = false"),
    # Without external access DuckDB still opens the attached file and its journal, to write too; this closes both.
    *("disabled_filesystems = 'LocalFileSystem'", "lock_configuration = true"),
)


class CheckFailed(UserError):
    """The artifacts contradict each other: a file of sql/checks returned rows."""


# --- the models ---


@lru_cache(maxsize=1)
def sql_folder() -> Path:
    """The folder of SQL models: beside the package in a checkout, inside it in an installed wheel.

    Raises:
        UserError: if it is in neither place.
    """
    for folder in (PACKAGE_PARENT / "sql", Path(__file__).parents[1] / "sql"):
        if (folder / "marts" / "results.sql").is_file():
            return folder
    raise UserError("The SQL models (sql/) are missing from this installation.", "Install tlm again.")


def ready_query(name: str) -> str:
    """The text of sql/queries/<name>.sql. Raises UserError naming the queries there are."""
    if name not in _models("queries"):
        raise UserError(f"There is no query {name!r} in sql/queries.", f"Choose from {', '.join(_models('queries'))}.")
    return _model("queries", name)


def column_descriptions(mart: str) -> dict[str, str]:
    """Column → description, from the comment at the head of sql/marts/<mart>.sql."""
    head, _, _ = _model("marts", mart).partition("\nwith ")
    _, _, columns = head.partition("\n")
    return dict(re.findall(r"^-- (\w+): (.+)$", columns, flags=re.MULTILINE))


# --- building ---


def build(store: ArtifactStore, path: Path, stages: Stages) -> None:
    """Rebuild the catalogue at `path` from the store's complete artifacts.

    `stages` (`tlm.stages.STAGES`) says what their files hold; artifacts of other stages are rows of `runs` alone.

    It is built in a folder beside `path` and moved into place: whoever reads keeps the old one open, and a crash leaves
    the old one whole. Builders queue behind a lock that dies with its holder.

    Raises:
        CheckFailed: if the artifacts contradict each other; the old catalogue stays.
        UserError: if an output cannot be read; the old catalogue stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name}-"
    with FileLock(path.with_name(f".{path.name}.lock")):
        for abandoned in path.parent.glob(f"{prefix}*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=prefix, dir=path.parent) as folder:
            for attempt in range(ATTEMPTS):
                fresh = Path(folder) / f"{attempt}.duckdb"
                try:
                    with duckdb.connect(str(fresh), config=_SETTINGS) as connection:
                        _build_into(connection, store, _complete(store), stages, {})
                    break
                except (UserError, LookupError):
                    # Perhaps an artifact was replaced between its record and its files: look again.
                    if attempt == ATTEMPTS - 1:
                        raise
            os.replace(fresh, path)


def build_memory(
    store: ArtifactStore, records: Iterable[Record], stages: Stages, labels: Labels | None = None
) -> Connection:
    """The same marts in memory, of some records only: what a report is written from. The caller closes it.

    Args:
        stages: what the files of each stage hold (`tlm.stages.STAGES`).
        labels: what this study calls a step, where another study made it first under other names.

    Raises:
        CheckFailed: if the artifacts contradict each other.
        UserError: if an output cannot be read.
    """
    connection = in_memory()
    try:
        _build_into(connection, store, sorted(records, key=lambda record: str(record.ref)), stages, labels or {})
    except BaseException:
        connection.close()
        raise
    return connection


def in_memory() -> Connection:
    """An empty database of this process alone, which fetches nothing from a network."""
    return duckdb.connect(config=_SETTINGS)


def is_stale(store: ArtifactStore, path: Path, stages: Stages) -> bool:
    """Whether `path` is missing, unreadable, or built from other records, of other tables or by other SQL."""
    try:
        with connect(path) as connection:
            row = connection.execute("select fingerprint from meta").fetchone()
    except (UserError, duckdb.Error):
        return True
    return row is None or row[0] != _fingerprint(_complete(store), stages)


# --- reading ---


def connect(path: Path) -> Connection:
    """A connection that sees the file as it is now, and can neither change it nor reach any other file of the machine.

    Within one process, `duckdb.connect(path)` hands out the database that is already open under that path even when
    another file has taken its place; attaching it to a new in-memory database does not.

    Raises:
        UserError: if there is no catalogue at `path`, or it is not one.
    """
    if not path.is_file():
        raise UserError(f"There is no catalogue at {path}.", "Run a study first, for example: tlm run demo")
    connection = in_memory()
    try:
        connection.execute(f"attach {_literal(str(path.resolve()))} as catalogue (read_only)")
        connection.execute("use catalogue")
        for setting in _LOCKED:
            connection.execute(f"set {setting}")
    except duckdb.Error as error:
        connection.close()
        raise UserError(f"{path} is not a catalogue ({_one_line(error)}).", "Delete it: it can be rebuilt.") from error
    return connection


def query(path: Path, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> pa.Table:
    """Run `sql` with bound `parameters` (`?`, `$1` or `$name`) and return the last statement's result.

    Raises:
        UserError: for an error in the SQL or an attempt to reach beyond the catalogue, on one line, or if there is no
            catalogue.
    """
    with connect(path) as connection:
        try:
            found = connection.sql(sql, params=parameters)
            if found is None:
                raise UserError("There is no SQL statement.", 'Try: tlm sql "select * from results"')
            return found.to_arrow_table()
        except duckdb.PermissionException as error:
            raise UserError(_one_line(error), READS_ONLY) from error
        except duckdb.Error as error:
            raise UserError(_one_line(error), "(tables: show tables; columns: describe results)") from error


# --- inside ---


def _build_into(
    connection: Connection, store: ArtifactStore, records: list[Record], stages: Stages, labels: Labels
) -> None:
    from tlm.artifacts.sql_functions import statistics_in_sql  # brings scipy, which reading a catalogue does not need

    with tempfile.TemporaryDirectory(prefix="tlm-catalogue-") as scratch:
        connection.register("raw_records", _record_table(records, stages, labels))
        try:
            staged = _stage_tables(connection, store, records, stages, Path(scratch))
            for name in _models("staging"):
                connection.execute(f"create temp view {name} as {_model('staging', name)}")
            with statistics_in_sql(connection):
                for name in MARTS:
                    connection.execute(f"create table main.{name} as {_model('marts', name)}")
                    for column, description in column_descriptions(name).items():
                        connection.execute(f"comment on column main.{name}.{column} is {_literal(description)}")
        except duckdb.Error as error:
            raise UserError(f"The catalogue cannot be built: {_one_line(error)}") from error
        for name in (*_models("staging"), *staged):
            connection.execute(f"drop view {name}")
    for name in ("raw_records", "raw_files"):
        connection.unregister(name)
    _check(connection)
    connection.execute("create table main.meta as select ? as fingerprint", [_fingerprint(records, stages)])


def _record_table(records: list[Record], stages: Stages, labels: Labels) -> pa.Table:
    rows = []
    for record in records:
        row = {**record.model_dump(mode="json"), "path": f"data/artifacts/{record.ref}"}
        row["labels"] = {**record.labels, **labels.get(record.key, {})}
        row["role"] = stages[record.stage].role if record.stage in stages else None
        rows.append({name: _text(value) for name, value in row.items()})
    return pa.Table.from_pylist(
        rows, pa.schema([(name, pa.string()) for name in (*Record.model_fields, "path", "role")])
    )


def _stage_tables(
    connection: Connection, store: ArtifactStore, records: list[Record], stages: Stages, scratch: Path
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
                path = str(store.local_path(record, file))
                owners[path] = record.key
                paths[table].append(_as_glob(path))
    columns = {"path": pa.array(owners, pa.string()), "key": pa.array(owners.values(), pa.string())}
    connection.register("raw_files", pa.table(columns))
    for table, files in paths.items():
        # An empty file comes first: it gives the types, and read_parquet refuses an empty list.
        empty = scratch / f"{table.name}.parquet"
        typed = ", ".join(f"null::{kind} as {name}" for name, kind in table.columns.items())
        connection.execute(f"copy (select {typed} limit 0) to {_literal(str(empty))} (format parquet)")
        listed = ", ".join(_literal(path) for path in (str(empty), *files))
        cast = ", ".join(f"contents.{name}::{kind} as {name}" for name, kind in table.columns.items())
        read = f"read_parquet([{listed}], union_by_name = true, filename = true, hive_partitioning = false)"
        connection.execute(
            f"create temp view stg_{table.name} as select files.key, {cast} "  # noqa: S608 – `Table` checks its words
            f"from {read} as contents left join raw_files as files on contents.filename = files.path"
        )
    return [f"stg_{table.name}" for table in paths]


def _check(connection: Connection) -> None:
    for name in _models("checks"):
        found = connection.sql(_model("checks", name)).to_arrow_table()
        if found.num_rows:
            rows = "; ".join(str(row) for row in found.slice(0, 3).to_pylist())
            more = f" and {found.num_rows - 3} more" if found.num_rows > 3 else ""
            raise CheckFailed(
                f"The artifacts contradict each other: check {name} found {rows}{more}.",
                "Verify them with `tlm plan`, or make them anew with `tlm invalidate`.",
            )


def _complete(store: ArtifactStore) -> list[Record]:
    return [record for record in store.records() if store.inspect(record.ref, verify=False).status == "complete"]


def _fingerprint(records: list[Record], stages: Stages) -> str:
    digest = hashlib.sha256()
    for path in sorted(sql_folder().glob("*/*.sql")):
        digest.update(path.read_bytes())
    tables = {
        name: (kind.role, {file: _described(t) for file, t in kind.outputs.items()}) for name, kind in stages.items()
    }
    digest.update(json.dumps(tables, sort_keys=True).encode())
    digest.update(json.dumps(sorted((record.key, record.created) for record in records)).encode())
    return digest.hexdigest()


def _described(table: Table | None) -> Any:
    return table and [table.name, *table.columns.items()]


def _models(folder: str) -> list[str]:
    return sorted(path.stem for path in (sql_folder() / folder).glob("*.sql"))


def _model(folder: str, name: str) -> str:
    return (sql_folder() / folder / f"{name}.sql").read_text(encoding="utf-8")


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, sort_keys=True)


def _as_glob(path: str) -> str:
    """A pattern that only this path matches: read_parquet takes every path for one."""
    return re.sub(r"([*?\[])", r"[\1]", path)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _one_line(error: duckdb.Error) -> str:
    return " ".join(str(error).partition("\n\nLINE ")[0].split())
