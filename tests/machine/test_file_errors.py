"""An error that a file caused is one line that names it; a full disk is told whichever library ran into it."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from helpers import python
from pyarrow import csv, parquet
from safetensors import SafetensorError

from tlm.errors import UserError
from tlm.machine import file_errors
from tlm.machine.file_errors import file_error

TABLE = pa.table({"a": ["x" * 1000] * 1000})
WRITERS: dict[str, Callable[[BinaryIO], object]] = {
    "python": lambda file: file.write(b"x" * 100_000),
    "numpy": lambda file: np.save(file, np.zeros(100_000)),
    "pyarrow": lambda file: parquet.write_table(TABLE, pa.PythonFile(file)),
    "pyarrow's CSV": lambda file: csv.write_csv(TABLE, pa.PythonFile(file)),
}
SAID = {
    "safetensors": SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    "tokenizers": Exception("No space left on device (os error 28)"),
    "duckdb": duckdb.IOException('IO Error: Could not write file "/there/x.duckdb": No space left on device'),
    "sqlite": sqlite3.OperationalError("database or disk is full"),
    "a quota": OSError(errno.EDQUOT, "Disk quota exceeded"),
    "numpy to a disk": OSError("100000 requested and 8176 written"),
}
"""What these raise where a file system of 64 KiB is full."""


def raised(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:
        call()
    return caught.value


def write(library: str) -> None:
    with open("/dev/full", "wb", buffering=0) as file:  # never by its path: a library may put a file in its place
        WRITERS[library](file)


@pytest.mark.parametrize("library", [*WRITERS, *SAID])
def test_a_full_disk_is_told_whoever_writes(library: str) -> None:
    told = file_error(SAID[library] if library in SAID else raised(lambda: write(library)), "/there")
    assert told is not None and told.problem == "No space is left on the disk of /there."
    assert "Make room there and run the same command again" in told.remedy and "\n" not in str(told)


def test_a_full_database_is_told(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "x.db")
    connection.execute("pragma max_page_count = 2")
    connection.execute("create table t (x)")
    told = file_error(raised(lambda: connection.execute("insert into t values (?)", ["x" * 100_000])), tmp_path)
    assert told is not None and str(tmp_path) in told.problem


def test_the_cause_of_a_failure_counts_however_deep_it_lies() -> None:
    def deep() -> None:
        try:
            try:
                write("python")
            except OSError as error:
                raise KeyError("in the middle of it") from error
        except KeyError:
            raise RuntimeError("the server does not answer")

    told = file_error(raised(deep))
    assert told is not None and told.problem == "No space is left on the disk."


def test_whatever_fails_where_no_room_is_left_fails_for_want_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert file_error(RuntimeError("Bus error"), tmp_path) is None
    monkeypatch.setattr(file_errors, "ROOM", 1 << 60)
    told = file_error(RuntimeError("Bus error"), tmp_path / "not" / "made" / "yet")
    assert told is not None and "No space is left on the disk of " in told.problem


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda path: (path / "none").read_text(), "none: No such file or directory."),
        (lambda path: path.read_text(), ": Is a directory."),
        (lambda path: (path / "file" / "below").read_text(), "below: Not a directory."),
        (lambda path: (path / "loop").read_text(), "loop: Too many levels of symbolic links."),
        (lambda path: (path / "loop").resolve(), "loop: Too many levels of symbolic links. Something else stands"),
        (lambda path: (path / ("x" * 300)).read_text(), "xxx: File name too long."),
        (lambda path: os.rename(path / "none", path / "other"), "none: No such file or directory."),
        (lambda path: parquet.read_table(path / "none"), "none"),
    ],
)
def test_any_other_error_of_a_file_names_it(tmp_path: Path, call: Callable[[Path], object], says: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    error = raised(lambda: call(tmp_path))
    told = file_error(error)
    if told is None:  # pyarrow names the file in the message alone
        assert says in str(error) and getattr(error, "filename", None) is None
    else:
        assert str(told).startswith(str(tmp_path)) and says in str(told)


@pytest.mark.parametrize(
    "error",
    [UserError("x"), KeyError("x"), ConnectionRefusedError(errno.ECONNREFUSED, "refused"), TimeoutError("late")],
)
def test_what_no_file_caused_is_left_as_it_is(error: Exception) -> None:
    assert file_error(error) is None


CHILD = """
import sys
from tlm.execution.process import Child
from tlm.machine.runtime import Runtime
from tlm.errors import UserError
with Child("fails_on_a_file", "what it does", Runtime(home="/tmp")) as child:
    try:
        child.hear()
    except UserError as error:
        print(error)
"""


def test_in_a_child_it_is_an_error_of_the_users_too(tmp_path: Path) -> None:
    (tmp_path / "fails_on_a_file.py").write_text(
        "from tlm.execution.process import talk_to_parent\n"
        "with talk_to_parent(): open('/dev/full', 'wb', buffering=0).write(b'x')\n"
    )
    paths = os.pathsep.join([str(Path(file_errors.__file__).parents[2]), str(tmp_path)])
    done = python(CHILD, PYTHONPATH=paths)
    assert done.stdout.startswith("No space is left on the disk. Make room there"), done.stderr
