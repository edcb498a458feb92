"""TLM_DATABASE_URL: one address, two databases, and no password where others could read it."""

from __future__ import annotations

import pytest

from tasks import postgres
from tasks.postgres import VARIABLE, database_environment
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
