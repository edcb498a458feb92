"""The two databases in PostgreSQL that `make server` uses if TLM_DATABASE_URL names a server of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from urllib.parse import urlsplit, urlunsplit

from tlm.errors import UserError

VARIABLE = "TLM_DATABASE_URL"
EXAMPLE = "postgresql://tlm:PASSWORD@127.0.0.1:5432/tlm"


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
