"""TLM_HOME: the same place to every library that is given it, or refused at once in one line."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import duckdb
import pytest
import sqlalchemy
from hypothesis import assume, given
from hypothesis import strategies as st

from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.machine.places import LONGEST, check_home, is_url
from tlm.machine.runtime import Runtime

ODD = "été 100% #1 [x] {y} & 'q' \"z\" *;,=:@+~$!`^|<>() 日本"


def database(path: Path) -> str | None:
    """Where SQLAlchemy looks for a database of MLflow or Prefect."""
    return sqlalchemy.make_url(f"sqlite:///{path}").database


@given(st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=20).filter(lambda s: s.strip(".")))
def test_a_home_that_is_accepted_is_the_same_place_in_every_address(name: str) -> None:
    home = Path("/home") / name
    try:
        check_home(str(home))
    except UserError as error:
        assert str(error).startswith("TLM_HOME=") and "\n" not in str(error)
        assume(False)
    assert database(home / "mlflow.db") == str(home / "mlflow.db")
    assert url2pathname(urlsplit(home.as_uri()).path) == str(home)
    assert ArtifactStore(f"{home}/data").root == f"{home}/data"


def test_what_is_written_below_an_odd_home_is_below_it(tmp_path: Path) -> None:
    for name in (ODD, "a::b", "100%", "%zz", "a%2", " x "):
        home = tmp_path / name
        check_home(str(home))
        store = ArtifactStore(f"{home}/data/artifacts")
        store.shelf.write(f"{store.root}/file", b"content")
        with duckdb.connect(str(home / "data" / "catalogue.duckdb")) as connection:
            connection.execute("create table t as select 1 as x")
        assert {path.name for path in (home / "data").iterdir()} == {"artifacts", "catalogue.duckdb"}
        assert (home / "data" / "artifacts" / "file").read_bytes() == b"content"
        assert store.shelf.read(f"{store.root}/file", 10) == b"content"
    assert len(list(tmp_path.iterdir())) == 6


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("what?", "takes its ? for something else"),
        ("a%20b", "takes its %20 for something else"),
        ("back\\slash", "takes its \\ for something else"),
        ("new\nline", "control character"),
        ("escape\x1b[1m", "control character"),
        ("half \udcff", "is not UTF-8"),
        ("x" * 256, "longer than 255 bytes"),
        ("é" * 128, "longer than 255 bytes"),
        ("/".join(["x" * 100] * 5), f"longer than {LONGEST} bytes"),
    ],
)
def test_a_home_that_a_library_would_misread_is_refused_at_once(
    tmp_path: Path, name: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TLM_HOME", str(tmp_path / name))
    with pytest.raises(UserError, match="^TLM_HOME=.*Point TLM_HOME at a folder with a plainer name") as refused:
        Runtime.from_environment()
    assert says in str(refused.value) and str(refused.value).isprintable()
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_judged_by_where_it_leads_too(tmp_path: Path) -> None:
    (tmp_path / "what?").mkdir()
    (tmp_path / "plain").symlink_to("what?")
    with pytest.raises(UserError, match=r"its \? for"):
        check_home(str(tmp_path / "plain"))


def test_the_longest_home_is_one_in_which_sqlite_opens_a_database(tmp_path: Path) -> None:
    import sqlite3

    home = tmp_path / "/".join(["x" * 60] * 9)
    home = Path(os.fsdecode(os.fsencode(home)[: LONGEST - 2] + b"yy"))
    check_home(str(home))
    place = home / "data" / "prefect" / "prefect.db"
    place.parent.mkdir(parents=True)
    with sqlite3.connect(place) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("create table t (x)")
    connection.close()
    with pytest.raises(UserError, match=f"longer than {LONGEST} bytes"):
        check_home(f"{home}y")


def test_a_url_is_told_from_a_path() -> None:
    assert is_url("s3://bucket/a?b::c%20d") and is_url("memory://x")
    assert not is_url("/a://b") and not is_url("a::b") and not is_url("://x")
    check_home("s3://bucket/folder")


@pytest.mark.parametrize("url", ["nothing://x", "x-y.z+1://bucket/folder"])
def test_a_url_of_an_unknown_kind_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLM_HOME", url)
    with pytest.raises(UserError, match=rf"{re.escape(url)}.* cannot be reached: .* Point TLM_HOME at a folder"):
        ArtifactStore(Runtime.from_environment().artifacts)
