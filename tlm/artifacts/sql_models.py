"""The SQL models: files under sql/ (see its README), one table, check or query each."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import takewhile
from pathlib import Path

from tlm.errors import UserError
from tlm.machine.files import reason
from tlm.machine.runtime import PACKAGE_PARENT

SQL_BYTES = 1_000_000
"""The largest file of SQL that is read."""


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
    if name not in models("queries"):
        raise UserError(f"There is no query {name!r} in sql/queries.", f"Choose from {', '.join(models('queries'))}.")
    return model("queries", name)


def column_descriptions(name: str, folder: str = "marts") -> dict[str, str]:
    """Column → description, from the comment at the head of sql/<folder>/<name>.sql."""
    return dict(re.findall(r"^-- (\w+): (.+)$", _head(folder, name)[1], flags=re.MULTILINE))


def description(name: str, folder: str = "marts") -> str:
    """What a row of a mart is, or what a query answers: the sentences above the columns, on one line."""
    sentences, _ = _head(folder, name)
    return " ".join(line.removeprefix("-- ") for line in sentences.splitlines()).removeprefix(f"{name}: ")


def models(folder: str) -> list[str]:
    """The names of the models in sql/<folder>, sorted."""
    return sorted(path.stem for path in (sql_folder() / folder).glob("*.sql"))


def model(folder: str, name: str) -> str:
    """The text of sql/<folder>/<name>.sql. Raises UserError naming the file if it cannot be read."""
    return read_sql(sql_folder() / folder / f"{name}.sql")


def _head(folder: str, name: str) -> tuple[str, str]:
    """The comment at the beginning of a model: its sentences, and its columns, a line each."""
    comment = "\n".join(takewhile(lambda line: line.startswith("--"), model(folder, name).splitlines()))
    first = re.search(r"\n-- \w+: ", comment)
    return (comment[: first.start()], comment[first.start() :]) if first else (comment, "")


def read_sql(path: Path) -> str:
    """The text of a file of SQL. Raises UserError naming the file, and the byte that is not UTF-8."""
    try:
        with path.open("rb") as file:
            content = file.read(SQL_BYTES + 1)
        if len(content) > SQL_BYTES:
            raise UserError(f"Cannot read {path}: it has more than {SQL_BYTES:,} bytes.", "Give a file of SQL.")
        return content.decode("utf-8")
    except OSError as error:
        raise UserError(f"Cannot read {path}: {reason(error)}.", "Give a file of SQL.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"Cannot read {path}: byte {error.start} is not UTF-8.", "Save it as UTF-8.") from error
