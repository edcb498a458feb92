"""MLflow's own database, a SQLite file: made aside and put in place whole, and looked at before it is used.

MLflow makes its tables in some sixty migrations. Left in the middle of them, it takes the file for one to go on with, and
fails; and it puts its tables into a file that is another program's.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tlm.errors import UserError
from tlm.machine.file_errors import full_disk

SCHEME = "sqlite:///"
MAGIC = b"SQLite format 3\0"
ASIDE = ".making-"
BUSY_SECONDS = 20
MLFLOWS = {"alembic_version", "experiments", "runs"}
"""Tables of every MLflow database, whatever its age."""

REMOVE = "Remove it or move it away: `tlm track` makes it again from the records, and nothing of a result is lost."
REHOME = (
    """update experiments set artifact_location = :new || substr(artifact_location, length(:old) + 1)
       where substr(artifact_location, 1, length(:old)) = :old""",
    """update runs set artifact_uri = :new || substr(artifact_uri, length(:old) + 1)
       where substr(artifact_uri, 1, length(:old)) = :old""",
    """update logged_models set artifact_location = :new || substr(artifact_location, length(:old) + 1)
       where substr(artifact_location, 1, length(:old)) = :old""",
)


def uri_of(path: Path) -> str:
    return f"{SCHEME}{path.parent.resolve() / path.name}"


def path_of(uri: str) -> Path | None:
    """The file of a tracking URI, None if it is not a SQLite file's."""
    name = uri.removeprefix(SCHEME).partition("?")[0]
    return Path(name) if uri.startswith(SCHEME) and name not in ("", ":memory:") else None


def ensure(path: Path, artifacts: Path, experiment: str) -> None:
    """Make the database if there is none, and refuse one that MLflow cannot work with.

    Call it with a lock held that others who may make it wait for.

    Args:
        artifacts: the folder for files of runs; it need not exist.
        experiment: the name of the experiment to make.

    Raises:
        UserError: if it cannot be made, or if what is there is empty, damaged, half made, another program's or another
            version's, naming the way out.
    """
    if os.path.lexists(path):
        check(path)
    else:
        make(path, artifacts, experiment)


def make(path: Path, artifacts: Path, experiment: str) -> None:
    """Make the database aside and move it into place: whoever is killed meanwhile leaves none. Raises as `ensure`."""
    from mlflow.exceptions import MlflowException
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy.exc import SQLAlchemyError

    for abandoned in path.parent.glob(f"{ASIDE}*"):  # by one who was killed: nobody else is at it
        shutil.rmtree(abandoned, ignore_errors=True)
    try:
        with tempfile.TemporaryDirectory(prefix=ASIDE, dir=path.parent) as folder:
            draft = Path(folder) / path.name
            store: Any = SqlAlchemyStore(uri_of(draft), artifacts.resolve().as_uri())  # type: ignore[no-untyped-call]
            store.create_experiment(experiment, artifacts.resolve().as_uri())
            store.engine.dispose()
            _write_through(draft)
            os.rename(draft, path)
            _write_through(path.parent)
    except (SQLAlchemyError, MlflowException, OSError) as error:
        remedy = "Nothing is left of it: run the command again once that is mended."
        failed = UserError(f"MLflow's database {path} cannot be made: {first_line(error)}.", remedy)
        raise full_disk(error, path.parent) or failed from error


def check(path: Path) -> None:
    """Raise UserError, naming the way out, unless this is a whole database of the MLflow that is installed."""
    name = f"MLflow's database {path}"
    if not path.is_file():
        raise UserError(f"{name} is not a file.", "Move it away: MLflow keeps a SQLite database there.")
    try:
        with path.open("rb") as file:
            head = file.read(len(MAGIC))
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error.strerror}.", "Give yourself the right to.") from error
    if not os.access(path, os.W_OK):
        raise UserError(f"{name} cannot be written.", "Give yourself the right to.")
    if not head:
        raise UserError(f"{name} is empty.", REMOVE)
    if head != MAGIC:
        raise UserError(f"{name} is not a SQLite database: damaged, or another program's file.", REMOVE)
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=BUSY_SECONDS)) as connection:
            _check_content(connection, name, uri_of(path))
    except sqlite3.DatabaseError as error:
        if "locked" in str(error):
            raise UserError(f"{name} is in use: it stayed locked for {BUSY_SECONDS} seconds.", "Try again.") from error
        raise UserError(f"{name} is damaged: {error}.", REMOVE) from error


def _check_content(connection: sqlite3.Connection, name: str, uri: str) -> None:
    [[found]] = connection.execute("pragma quick_check(1)").fetchall()
    if found != "ok":
        raise UserError(f"{name} is damaged: {' '.join(str(found).split())}.", REMOVE)
    tables = {row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")}
    if not tables:
        raise UserError(f"{name} has no tables.", REMOVE)
    if not tables & MLFLOWS:
        raise UserError(
            f"{name} is another program's: its tables are {', '.join(sorted(tables)[:5])}.",
            "Move it away: `tlm track` then makes MLflow's from the records.",
        )
    revisions = connection.execute("select version_num from alembic_version").fetchall() if tables >= MLFLOWS else []
    if len(revisions) != 1:
        raise UserError(f"{name} was left half made.", REMOVE)
    [[revision]] = revisions
    latest, known, needed = _schema()
    if revision != latest and revision in known:
        raise UserError(
            f"{name} was left half made, or is an older MLflow's (schema {revision}, not {latest}).",
            f"An older one: `mlflow db upgrade {uri}`. If that fails, remove it: `tlm track` makes it again.",
        )
    if revision != latest:
        raise UserError(
            f"{name} is another MLflow's: its schema {revision} is unknown to the installed one.",
            "Install that MLflow again, or remove the file: `tlm track` makes it again from the records.",
        )
    if lacking := sorted(needed - tables):
        raise UserError(f"{name} is damaged: it lacks the tables {', '.join(lacking[:5])}.", REMOVE)


def _schema() -> tuple[str, set[str], set[str]]:
    """Of the installed MLflow: the revision of its databases, all revisions it knows, and the tables it needs."""
    from alembic.script import ScriptDirectory
    from mlflow.store.db import utils  # with it come the modules whose tables Base then knows
    from mlflow.store.db.base_sql_model import Base

    config: Any = utils._get_alembic_config(db_url="")  # type: ignore[no-untyped-call]
    script = ScriptDirectory.from_config(config)
    known = {each.revision for each in script.walk_revisions()}
    return str(script.get_current_head()), known, set(Base.metadata.tables)


def rehome(path: Path, artifacts: Path, experiment: str) -> None:
    """MLflow stores absolute artifact locations. If the project folder was moved, move those beside the database along.

    Args:
        artifacts: where the files of the experiment of this name are now.
    """
    here = f"{artifacts.parent.resolve().as_uri()}/"
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection, connection:
        query = "select artifact_location from experiments where name = ?"
        found = str((connection.execute(query, (experiment,)).fetchone() or [""])[0])
        before = found.removesuffix(artifacts.name)
        if before in (found, here) or not before.startswith("file:"):
            return
        for statement in REHOME:
            connection.execute(statement, {"new": here, "old": before})


def rename_run(path: Path, run_id: str, wanted: str, mark: str) -> None:
    """Give a run that has nothing but its tags yet the id that it had, and take the tag `mark` off it.

    MLflow itself lets nobody choose an id. Reports, documents and other runs name runs by theirs.
    """
    names = {"old": run_id, "new": wanted, "mark": mark}
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection, connection:
        connection.execute("pragma foreign_keys = off")
        connection.execute("delete from tags where run_uuid = :old and key = :mark", names)
        connection.execute("update tags set run_uuid = :new where run_uuid = :old", names)
        connection.execute(
            "update runs set run_uuid = :new, artifact_uri = replace(artifact_uri, :old, :new) where run_uuid = :old",
            names,
        )


def first_line(error: BaseException) -> str:
    """What an error says, on one line and without the statements that libraries add."""
    text = str(error).strip() or type(error).__name__
    return " ".join(text.splitlines()[0].split()).rstrip(".")


def _write_through(path: Path) -> None:
    """Have the disk hold what was written, so that a machine that stops does not leave a name without its content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
