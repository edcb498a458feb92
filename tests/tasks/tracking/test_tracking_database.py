"""MLflow's database is there whole or not at all, and one that MLflow cannot work with is named with the way out."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tlm.errors import UserError
from tlm.machine.runtime import Runtime

pytestmark = pytest.mark.slow  # MLflow takes seconds to import, and to make a database


def execute(*statements: str) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    return change


def other_programs(path: Path) -> None:
    path.unlink()
    execute("create table recipes (name text)")(path)


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[200:20_000] = os.urandom(19_800)
    path.write_bytes(bytes(content))


def replaced(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        path.unlink()
        make(path)

    return change


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "without tables": (replaced(execute("create table x (y)", "drop table x")), "has no tables"),
    "text": (lambda path: path.write_text("name: mini\n" * 10), "is not a SQLite database"),
    "cut": (lambda path: os.truncate(path, path.stat().st_size // 2), "is damaged"),
    "random bytes": (flipped, "is damaged"),
    "half made": (execute("delete from alembic_version"), "was left half made"),
    "half made, before its first version": (execute("drop table alembic_version"), "was left half made"),
    "half made, without runs": (execute("pragma foreign_keys = off", "drop table runs"), "was left half made"),
    "older": (execute("update alembic_version set version_num = '451aebb31d03'"), "mlflow db upgrade sqlite:////"),
    "newer": (execute("update alembic_version set version_num = 'fedcba987654'"), "is another MLflow's"),
    "without a table": (execute("pragma foreign_keys = off", "drop table latest_metrics"), "lacks the tables latest_m"),
    "another program's": (other_programs, "is another program's: its tables are recipes"),
    "a folder": (replaced(Path.mkdir), "is not a file"),
    "a pipe": (replaced(lambda path: os.mkfifo(path)), "is not a file"),
    "a link to nothing": (replaced(lambda path: path.symlink_to("nowhere")), "is not a file"),
    "a link to itself": (replaced(lambda path: path.symlink_to(path)), "is not a file"),
}


def content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_database_that_cannot_be_used_is_named_with_the_way_out_and_left_alone(runtime: Runtime, fault: str) -> None:
    from tasks.tracking.connecting import prepare

    change, expected = FAULTS[fault]
    path = runtime.mlflow_folder / "mlflow.db"
    change(path)
    before = content(path)
    with pytest.raises(UserError) as error:
        prepare(runtime)
    said = str(error.value)
    assert str(path) in said and expected in said and len(said.splitlines()) == 1
    assert any(word in said for word in ("emove", "Move it away", "mlflow db upgrade"))
    assert content(path) == before and os.path.lexists(path)


def test_a_locked_database_is_not_called_damaged(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.tracking import database
    from tasks.tracking.connecting import prepare

    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    with closing(sqlite3.connect(runtime.mlflow_folder / "mlflow.db")) as connection:
        connection.execute("begin exclusive")
        with pytest.raises(UserError, match=r"is in use: it stayed locked .* Try again"):
            prepare(runtime)


SEARCHES = """insert into experiments (experiment_id, name, artifact_location, lifecycle_stage, workspace)
    select 2, 'tlm-tuning', replace(artifact_location, '/artifacts', '/tlm-tuning'), 'active', 'default'
    from experiments where name = 'tlm'"""


def test_a_sound_database_is_used_as_it_is_and_its_files_are_where_it_is(runtime: Runtime) -> None:
    from mlflow import MlflowClient

    from tasks.tracking.connecting import prepare

    execute(SEARCHES)(runtime.mlflow_folder / "mlflow.db")
    uri = prepare(runtime)
    assert uri == f"sqlite:///{runtime.mlflow_folder / 'mlflow.db'}" == prepare(runtime)
    for name, folder in (("tlm", "artifacts"), ("tlm-tuning", "tlm-tuning")):
        experiment = MlflowClient(tracking_uri=uri).get_experiment_by_name(name)
        assert experiment and experiment.artifact_location == (runtime.mlflow_folder / folder).as_uri()


def test_a_database_of_mlflows_without_our_experiment_gets_it(runtime: Runtime) -> None:
    from mlflow import MlflowClient

    from tasks.tracking.connecting import prepare

    execute("delete from experiments where name = 'tlm'")(runtime.mlflow_folder / "mlflow.db")
    experiment = MlflowClient(tracking_uri=prepare(runtime)).get_experiment_by_name("tlm")
    assert experiment and experiment.artifact_location == (runtime.mlflow_folder / "artifacts").as_uri()


def test_an_experiment_says_what_it_holds_and_opens_on_its_runs_unless_the_user_wants_it_otherwise(
    runtime: Runtime,
) -> None:
    from mlflow import MlflowClient

    from tasks.tracking.connecting import KIND, NOTE, prepare

    client = MlflowClient(tracking_uri=prepare(runtime))
    made = client.get_experiment_by_name("tlm")
    assert KIND.items() <= made.tags.items() and "test_accuracy" in made.tags[NOTE]
    client.set_experiment_tag(made.experiment_id, NOTE, "Mine.")
    prepare(runtime)
    assert client.get_experiment_by_name("tlm").tags == {**made.tags, NOTE: "Mine."}


def test_an_experiment_that_was_deleted_is_named_with_the_way_back(runtime: Runtime) -> None:
    from mlflow import MlflowClient

    from tasks.tracking.connecting import prepare

    client = MlflowClient(tracking_uri=prepare(runtime))
    client.delete_experiment(client.get_experiment_by_name("tlm").experiment_id)
    with pytest.raises(UserError, match="mlflow experiments restore --experiment-id 1"):
        prepare(runtime)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space is left on the disk of .*Make room"),
        (PermissionError(13, "denied"), "cannot be made: .*denied"),
    ],
)
def test_a_database_that_cannot_be_made_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, says: str
) -> None:
    from mlflow.store.tracking import sqlalchemy_store

    from tasks.tracking import database

    def fail(uri: str, root: str) -> Any:
        database.path_of(uri).write_bytes(b"half of it")
        raise error

    monkeypatch.setattr(sqlalchemy_store, "SqlAlchemyStore", fail)
    with pytest.raises(UserError, match=says):
        database.ensure(tmp_path / "mlflow.db", tmp_path / "artifacts", "tlm")
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_the_environment_names_is_looked_at_too(runtime: Runtime, tmp_path: Path) -> None:
    from tasks.tracking.connecting import prepare

    elsewhere = tmp_path / "elsewhere.db"
    elsewhere.write_bytes(b"")
    asked = runtime.model_copy(update={"tracking_uri": f"sqlite:///{elsewhere}"})
    with pytest.raises(UserError, match=f"{elsewhere} is empty"):
        prepare(asked)
    shutil.copyfile(runtime.mlflow_folder / "mlflow.db", elsewhere)
    before = sqlite3.connect(elsewhere).execute("select artifact_location from experiments").fetchall()
    assert prepare(asked) == asked.tracking_uri
    assert sqlite3.connect(elsewhere).execute("select artifact_location from experiments").fetchall() == before


def test_what_is_no_uri_of_mlflows_is_an_error_on_one_line(runtime: Runtime) -> None:
    from tasks.tracking.connecting import prepare

    for uri in ("htp://127.0.0.1:1", "nonsense://x", "sqlite:////nowhere/at/all/mlflow.db"):
        with pytest.raises(UserError) as error:
            prepare(runtime.model_copy(update={"tracking_uri": uri}))
        assert len(str(error.value).splitlines()) == 1
