"""TLM_HOME as several libraries read it: to all of them it is the same place, or it is refused before any writes there."""

from __future__ import annotations

import hashlib
import os
import re

from tlm.errors import UserError
from tlm.machine.printing import without_passwords

ARTIFACTS = "/data/artifacts"
"""Where artifacts lie below TLM_HOME."""
LONGEST = 400
"""Bytes of TLM_HOME's absolute path: SQLite opens no file whose path has more than about 500."""
LONGEST_NAME = 255
"""Bytes of one folder's name, on common file systems."""
MISREAD = re.compile(r"[?\\]|%[0-9A-Fa-f]{2}")
"""What addresses of databases (SQLAlchemy's, for MLflow and Prefect; DuckDB's) take for something else than a path."""


def is_url(place: str) -> bool:
    """Whether it is an fsspec URL (`s3://bucket/folder`), and no local path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", place) is not None


def home_of(artifacts: str) -> str:
    """TLM_HOME as it was given but for a password in it, of the place where its artifacts lie: to be told."""
    return without_passwords(artifacts.removesuffix(ARTIFACTS))


def folder_name(url: str) -> str:
    """The name of a folder for what belongs to a URL and to no other."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", url.rstrip("/"))[:80]
    return f"{plain}-{hashlib.sha256(url.rstrip('/').encode()).hexdigest()[:8]}"


def check_home(home: str) -> None:
    """Refuse a TLM_HOME, an absolute path or a URL, that is not the same place to all who write there.

    Raises:
        UserError: if it is no text, too long, or a path with characters that the address of a database cannot have.
    """
    wrong = _fault(home) or (not is_url(home) and _fault(os.path.realpath(home)))
    if wrong:
        shown = home if home.isprintable() else ascii(home)
        more = "…" if shown[80:] else ""
        raise UserError(f"TLM_HOME={shown[:80]}{more} {wrong}.", "Point TLM_HOME at a folder with a plainer name.")


def _fault(home: str) -> str:
    """What is wrong with a place, to follow its name; "" if nothing is."""
    try:
        length = len(home.encode("utf-8"))
    except UnicodeEncodeError:
        return "is not UTF-8"
    if control := re.search(r"[\x00-\x1f\x7f]", home):
        return f"holds the control character {control[0]!r}"
    if is_url(home):
        return ""
    if misread := MISREAD.search(home):
        return f"leads elsewhere: the address of a database takes its {misread[0]} for something else"
    if any(len(part.encode("utf-8")) > LONGEST_NAME for part in home.split(os.sep)):
        return f"has a folder whose name is longer than {LONGEST_NAME} bytes"
    return f"is longer than {LONGEST} bytes" if length > LONGEST else ""
