"""The DuckDB catalogue: a view of the records that can be thrown away and rebuilt.

Its tables are the marts (`tlm.artifacts.marts`), and need no other file: it opens from any directory and survives a move of
the project. What cannot be shown is left out, and said to be: one bad artifact keeps no other from being shown.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from tlm.artifacts.inspection import Inspection
from tlm.artifacts.marts import (
    SETTINGS,
    Connection,
    Unfit,
    comment,
    describe,
    fitting,
    in_memory,
    literal,
    make_marts,
    one_line,
)
from tlm.artifacts.record import Record, in_time
from tlm.artifacts.sql_models import sql_folder
from tlm.artifacts.store import ArtifactStore
from tlm.artifacts.tables import Stages, Table
from tlm.errors import UserError
from tlm.machine.file_errors import file_error
from tlm.machine.files import locked, remove

READS_ONLY = "A query reads the catalogue's own tables and no file; --csv prints a result that can be kept."
DELETE_IT = "Delete it: it can be rebuilt."
ATTEMPTS = 3
OWN_TABLES = {
    "table main.left_out": "What the catalogue does not show: damaged artifacts, and those that contradict others.",
    "column main.left_out.artifact": "stage/slug-key",
    "column main.left_out.reason": "why it is left out",
    "table main.meta": "What the catalogue was built from.",
    "column main.meta.fingerprint": "digest of the records and of the SQL models",
}
"""Beside the marts, which describe themselves."""
DAMAGED = (duckdb.IOException, duckdb.InternalException, duckdb.FatalException, duckdb.SerializationException)
"""What DuckDB raises where its file is not what it wrote; a reader's SQL reaches no other file."""
# A reader's SQL is foreign: it reads the marts, no file or variable of this process, and cannot unlock itself.
_LOCKED = (
    *("temp_directory = ''", "python_enable_replacements = false", "enable_external_access = false"),
    # Without external access DuckDB still opens the attached file and its journal, to write too; this closes both.
    *("disabled_filesystems = 'LocalFileSystem'", "lock_configuration = true"),
)


class CatalogueDamaged(UserError):
    """The file is not what was written: it is to be built again."""


# --- building ---


def build(store: ArtifactStore, path: Path, stages: Stages) -> dict[str, str]:
    """Rebuild the catalogue at `path` from the store's complete artifacts.

    `stages` (`tlm.stages.STAGES`) says what their files hold; artifacts of other stages are rows of `runs` alone.

    It is built in a folder beside `path` and moved into place: whoever reads keeps the old one open, and a crash leaves
    the old one whole. Builders queue behind a lock that dies with its holder.

    Returns:
        What is left out, by name (stage/slug-key), and why: damaged artifacts, and those that do not fit the marts or
        contradict others.

    Raises:
        UserError: if no catalogue can be built at all; the old one stays.
    """
    prefix = f".{path.name}-"
    with locked(path.with_name(f".{path.name}.lock")):
        for abandoned in path.parent.glob(f"{prefix}*"):
            remove(abandoned)
        with tempfile.TemporaryDirectory(prefix=prefix, dir=path.parent) as folder:
            for attempt in range(ATTEMPTS):
                fresh = Path(folder) / f"{attempt}.duckdb"
                try:
                    left = _build(store, fresh, stages)
                    break
                except LookupError:  # an artifact was replaced between its record and its files: look again
                    if attempt == ATTEMPTS - 1:
                        raise
            if not path.is_file():  # a folder cannot be replaced
                remove(path)
            os.replace(fresh, path)
    return left


def is_stale(store: ArtifactStore, path: Path, stages: Stages) -> bool:
    """Whether `path` is missing, unreadable, or built from other records, of other tables or by other SQL."""
    try:
        with connect(path) as connection:
            row = connection.execute("select fingerprint from meta").fetchone()
    except (UserError, duckdb.Error):
        return True
    return row is None or row[0] != _fingerprint(dict(store.inspect_all()), stages)


def refresh(store: ArtifactStore, path: Path, stages: Stages) -> dict[str, str]:
    """`build` it, unless it shows what the store holds; return what it leaves out, and why. Raises as `build`."""
    if is_stale(store, path, stages):
        return build(store, path, stages)
    return left_out(path)


def unfit(store: ArtifactStore, source: ArtifactStore, records: Sequence[Record], *, stages: Stages) -> dict[str, str]:
    """Those of `records`, artifacts of `source`, that could not be shown beside what `store` holds: by name, and why."""
    if not records:
        return {}
    new = {record.key for record in records}  # some may be here without weights
    seen = [each.record for _, each in store.inspect_all() if each.status == "complete" and each.record]
    own = in_time(record for record in seen if record.key not in new)

    def files(record: Record, name: str) -> Path:
        return (source if record.key in new else store).local_path(record, name)

    _, left = fitting(files, [*own, *in_time(records)], stages)
    names = {str(record.ref) for record in records}
    return {name: f"it cannot be used: {why}" for name, why in left.items() if name in names}


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
        connection.execute(f"attach {literal(str(path.resolve()))} as catalogue (read_only)")
        connection.execute("use catalogue")
        for setting in _LOCKED:
            connection.execute(f"set {setting}")
    except duckdb.Error as error:
        connection.close()
        raise CatalogueDamaged(f"{path} is not a catalogue ({one_line(error)}).", DELETE_IT) from error
    return connection


def query(
    path: Path,
    sql: str,
    parameters: Sequence[Any] | Mapping[str, Any] | None = None,
    variables: Mapping[str, str] | None = None,
) -> pa.Table:
    """Run `sql` and return the last statement's result.

    Args:
        parameters: bound to `?`, `$1` or `$name`; every one has to be given.
        variables: what `getvariable('name')` returns; those that are not given are null.

    Raises:
        UserError: for an error in the SQL or an attempt to reach beyond the catalogue, on one line, or if there is no
            catalogue.
        CatalogueDamaged: if its file is not what was written.
    """
    with connect(path) as connection:
        try:
            for name, value in (variables or {}).items():
                connection.execute(f'set variable "{name}" = ?', [value])
            found = connection.sql(sql, params=parameters)
            if found is None:
                raise UserError("There is no SQL statement.", 'Try: tlm sql "select * from results"')
            return found.to_arrow_table()
        except duckdb.PermissionException as error:
            raise UserError(one_line(error), READS_ONLY) from error
        except duckdb.Error as error:
            if isinstance(error, DAMAGED) or "Corrupt database file" in str(error):
                raise CatalogueDamaged(f"{path} is damaged ({one_line(error)}).", DELETE_IT) from error
            raise UserError(one_line(error), "(tables: show tables; columns: describe results)") from error


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column's values as DuckDB writes them."""
    with in_memory() as connection:
        texts = connection.from_arrow(pa.table({"value": column})).project("value::varchar as value")
        return texts.to_arrow_table()["value"]


def left_out(path: Path) -> dict[str, str]:
    """What the catalogue does not show, by name, and why. Raises UserError if there is no catalogue."""
    return {row["artifact"]: row["reason"] for row in query(path, "select * from left_out").to_pylist()}


# --- inside ---


def _build(store: ArtifactStore, fresh: Path, stages: Stages) -> dict[str, str]:
    def is_table(record: Record, file: str) -> bool:
        """A flipped bit in one is no error to whoever reads it."""
        return record.stage in stages and stages[record.stage].outputs.get(file) is not None

    found = dict(store.inspect_all(verify=is_table))
    left = {name: seen.reason for name, seen in found.items() if seen.status != "complete"}
    complete = in_time(seen.record for name, seen in found.items() if seen.record is not None and name not in left)
    fingerprint = _fingerprint(found, stages)
    try:
        _write(fresh, store, complete, stages, left, fingerprint)
    except Unfit:
        kept, unfit = fitting(store.local_path, complete, stages)
        left |= unfit
        remove(fresh)
        _write(fresh, store, kept, stages, left, fingerprint)
    return left


def _write(
    path: Path,
    store: ArtifactStore,
    records: Sequence[Record],
    stages: Stages,
    left: Mapping[str, str],
    fingerprint: str,
) -> None:
    table = pa.table({"artifact": pa.array(left, pa.string()), "reason": pa.array(left.values(), pa.string())})
    try:
        with duckdb.connect(str(path), config=SETTINGS) as connection:
            connection.begin()  # else every statement waits until it is on the disk
            make_marts(connection, store.local_path, records, stages, {})
            connection.register("raw_left_out", table)
            connection.execute("create table main.left_out as select * from raw_left_out order by artifact")
            connection.unregister("raw_left_out")
            connection.execute("create table main.meta as select ? as fingerprint", [fingerprint])
            describe(connection)
            comment(connection, OWN_TABLES)
            connection.commit()
    except duckdb.Error as error:  # as it is closed, what is left to write is written
        told = file_error(error, path)
        raise told or UserError(f"The catalogue cannot be written: {one_line(error)}.") from error


def _fingerprint(found: Mapping[str, Inspection], stages: Stages) -> str:
    digest = hashlib.sha256()
    for path in sorted(sql_folder().glob("*/*.sql")):
        digest.update(path.read_bytes())
    tables = {
        name: (kind.role, {file: _described(t) for file, t in kind.outputs.items()}) for name, kind in stages.items()
    }
    digest.update(json.dumps(tables, sort_keys=True).encode())
    for name, seen in sorted(found.items()):
        digest.update(f"{name} {seen.status} {seen.reason}\n".encode())
        digest.update(seen.record.model_dump_json().encode() if seen.record is not None else b"")
    return digest.hexdigest()


def _described(table: Table | None) -> Any:
    return table and [table.name, *table.columns.items()]
