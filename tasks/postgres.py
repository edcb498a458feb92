"""The two databases in PostgreSQL that `make server` uses if TLM_DATABASE_URL names a server of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from importlib.util import find_spec
from urllib.parse import urlsplit, urlunsplit

from tlm.errors import UserError

VARIABLE = "TLM_DATABASE_URL"
EXAMPLE = "postgresql://tlm:PASSWORD@127.0.0.1:5432/tlm"
ANSWER_SECONDS = 10


def database_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables by which Prefect's server and MLflow's find their databases; none without TLM_DATABASE_URL.

    `postgresql://…/NAME` stands for two databases, NAME_prefect and NAME_mlflow: each keeps the version of its tables under
    one and the same name. They are variables, for what stands in a command is seen by every user of the machine.

    Raises:
        UserError: if it is no such address, or if a package is not installed; never with the password.
    """
    given = environment.get(VARIABLE, "")
    if not given:
        return {}
    try:
        parts = urlsplit(given)
        name = parts.path.strip("/")
        named = bool(parts.hostname) and name.replace("_", "").isalnum() and parts.port != 0
        sound = parts.scheme in ("postgresql", "postgres") and named and not (parts.query or parts.fragment)
    except ValueError:  # a port that is no number
        sound = False
    if not sound:
        raise UserError(f"{VARIABLE} is no address of a database in PostgreSQL.", f"Give one like {EXAMPLE}.")
    if find_spec("psycopg2") is None:
        raise UserError(f"{VARIABLE} needs a package that is not installed.", "pip install 'tlm[postgres]'")

    def url(driver: str, what: str) -> str:
        return urlunsplit((f"postgresql+{driver}", parts.netloc, f"/{name}_{what}", "", ""))

    return {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": url("asyncpg", "prefect"),
        "MLFLOW_BACKEND_STORE_URI": url("psycopg2", "mlflow"),
    }


def check_databases(environment: Mapping[str, str]) -> None:
    """Each database of `database_environment` answers, and holds any text: what servers write has dots and arrows.

    Raises:
        UserError: if not, with what the server said, which knows no password.
    """
    for url in environment.values():
        parts = urlsplit(url)
        _check(urlunsplit(parts._replace(scheme="postgresql")), parts.path.strip("/"))


def _check(url: str, name: str) -> None:
    import psycopg2

    try:
        connection = psycopg2.connect(url, connect_timeout=ANSWER_SECONDS)
    except psycopg2.OperationalError as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"{VARIABLE}: database {name} cannot be reached: {said}.", f"Start PostgreSQL; createdb -O tlm {name}"
        ) from error
    with closing(connection), connection.cursor() as cursor:
        cursor.execute("SHOW server_encoding")
        [encoding] = cursor.fetchone()
    if encoding != "UTF8":
        raise UserError(
            f"{VARIABLE}: database {name} has encoding {encoding}, which does not hold all text.",
            f"Make it anew: createdb -O tlm -E UTF8 -T template0 {name}",
        )
