"""Files that have become something else: none is waited for, read without end, or followed when it is removed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tlm.machine.files import DAMAGE, locked, make_folder, plain_size, read_plain, remove

NOT_PLAIN: dict[str, Callable[[Path], object]] = {
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "an endless file": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to nowhere": lambda path: path.symlink_to(path.with_name("nowhere")),
    "nothing": lambda path: None,
}


@pytest.mark.parametrize("what", NOT_PLAIN)
def test_what_is_no_plain_file_is_an_error_at_once(tmp_path: Path, what: str) -> None:
    NOT_PLAIN[what](tmp_path / "x")
    for read in (plain_size, lambda path: read_plain(path, 10)):
        with pytest.raises(OSError) as raised:
            read(tmp_path / "x")
        assert raised.value.errno in DAMAGE


def test_a_file_is_read_whole_up_to_its_limit_and_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to("file")
    assert read_plain(tmp_path / "link", 10) == b"0123456789" and plain_size(tmp_path / "link") == 10
    with pytest.raises(OSError, match="more than 9 bytes") as raised:
        read_plain(tmp_path / "file", 9)
    assert raised.value.errno == errno.EFBIG and raised.value.filename == str(tmp_path / "file")


@pytest.mark.parametrize("what", NOT_PLAIN)
def test_whatever_is_there_is_removed_and_nothing_that_it_leads_to(tmp_path: Path, what: str) -> None:
    NOT_PLAIN[what](tmp_path / "x")
    remove(tmp_path / "x")
    assert not os.path.lexists(tmp_path / "x")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "x").symlink_to("kept")
    remove(tmp_path / "x")
    assert os.listdir(tmp_path) == ["kept"] and (tmp_path / "kept" / "file").exists()


@pytest.mark.parametrize("what", [*NOT_PLAIN, "a file"])
def test_a_folder_of_the_programs_own_and_a_lock_take_the_place_of_what_is_there(tmp_path: Path, what: str) -> None:
    for name in ("folder", "lock"):
        NOT_PLAIN.get(what, Path.touch)(tmp_path / name)
    make_folder(tmp_path / "folder")
    assert (tmp_path / "folder").is_dir()
    with locked(tmp_path / "lock"):
        pass


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    from filelock import FileLock, Timeout

    with locked(tmp_path / "new" / "lock"), pytest.raises(Timeout):
        FileLock(tmp_path / "new" / "lock").acquire(timeout=0)
