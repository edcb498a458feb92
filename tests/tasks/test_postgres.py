"""TLM_DATABASE_URL: one address, two databases, and no password where others could read it."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tasks import postgres
from tasks.postgres import VARIABLE, check_databases, database_environment
from tlm.errors import UserError


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "find_spec", lambda name: object())


def test_without_it_nothing_changes() -> None:
    assert database_environment({}) == {}


def test_each_server_has_a_database_of_its_own() -> None:
    assert database_environment({VARIABLE: "postgresql://tlm:p%40ss@db.lab:5433/tlm"}) == {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql+asyncpg://tlm:p%40ss@db.lab:5433/tlm_prefect",
        "MLFLOW_BACKEND_STORE_URI": "postgresql+psycopg2://tlm:p%40ss@db.lab:5433/tlm_mlflow",
    }


@pytest.mark.parametrize(
    "given",
    [
        "sqlite:///secret.db",
        "postgresql://tlm:secret@host",
        "postgresql:///tlm-secret",
        "postgresql://secret@host:port/tlm",
        "postgresql://tlm:secret@host/tlm?options=x",
        "postgresql://tlm:secret@host/a/b",
    ],
)
def test_what_is_no_such_address_is_refused_without_being_repeated(given: str) -> None:
    with pytest.raises(UserError, match="TLM_DATABASE_URL is no address") as refused:
        database_environment({VARIABLE: given})
    assert "secret" not in str(refused.value)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'tlm\[postgres\]'"):
        database_environment({VARIABLE: "postgresql://tlm@host/tlm"})


class Refused(Exception):
    """What psycopg2 raises if no server answers."""


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Encodings of the databases that answer, by the address that is asked for."""
    found: dict[str, str] = {}

    def connect(url: str, connect_timeout: int) -> Any:
        if url not in found:
            raise Refused(f"connection to server failed:\n\tConnection refused ({connect_timeout})")
        cursor = SimpleNamespace(execute=lambda command: None, fetchone=lambda: (found[url],))
        context = type("Cursor", (), {"__enter__": lambda self: cursor, "__exit__": lambda *error: None})
        return SimpleNamespace(cursor=context, close=lambda: None)

    module = ModuleType("psycopg2")
    vars(module).update(connect=connect, OperationalError=Refused)
    monkeypatch.setitem(sys.modules, "psycopg2", module)
    return found


def test_databases_that_answer_and_hold_any_text_are_used(servers: dict[str, str]) -> None:
    servers |= {f"postgresql://tlm:secret@host/tlm_{name}": "UTF8" for name in ("prefect", "mlflow")}
    check_databases(database_environment({VARIABLE: "postgresql://tlm:secret@host/tlm"}))


def test_a_database_that_does_not_answer_is_named_in_one_line(servers: dict[str, str]) -> None:
    servers["postgresql://tlm:secret@host/tlm_prefect"] = "UTF8"
    with pytest.raises(
        UserError, match=r"tlm_mlflow cannot be reached: connection to server failed: Conn.*\."
    ) as refused:
        check_databases(database_environment({VARIABLE: "postgresql://tlm:secret@host/tlm"}))
    assert "secret" not in str(refused.value) and "\n" not in refused.value.problem


def test_a_database_that_does_not_hold_all_text_is_refused(servers: dict[str, str]) -> None:
    servers |= {f"postgresql://tlm@host/tlm_{name}": "SQL_ASCII" for name in ("prefect", "mlflow")}
    with pytest.raises(UserError, match="tlm_prefect has encoding SQL_ASCII.*createdb -O tlm -E UTF8"):
        check_databases(database_environment({VARIABLE: "postgresql://tlm@host/tlm"}))
