"""Archives of artifacts: what a folder would bring comes home from them, and a bad one brings nothing at all."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tlm.errors import UserError
from tlm.execution.archives import unpacked

NAME = "data/artifacts/task/topics-000000000000/items.parquet"


def pack(place: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(place, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            add(tar, name, content)
    return place


def add(tar: tarfile.TarFile, name: str, content: bytes = b"", **fields: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    tar.addfile(member, io.BytesIO(content))


@pytest.fixture(autouse=True)
def aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where archives are unpacked; whatever happens, nothing may be left there."""
    folder = tmp_path / "aside"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_one_archive_or_a_folder_of_them_is_unpacked_and_gone_afterwards(tmp_path: Path, aside: Path) -> None:
    (tmp_path / "home").mkdir()
    first = pack(tmp_path / "home" / "0-artifacts.tar", {NAME: b"one"})
    pack(tmp_path / "home" / "1-artifacts.tar.xz", {NAME.replace("topics", "others"): b"two"}, "w:xz")
    (tmp_path / "home" / "figures.json").write_text("{}")
    with unpacked(first) as folder:
        assert [path.read_bytes() for path in folder.rglob("*.parquet")] == [b"one"]
    with unpacked(tmp_path / "home") as folder:
        assert sorted(path.read_bytes() for path in folder.rglob("*.parquet")) == [b"one", b"two"]
    assert not [*aside.iterdir()]


def test_a_folder_with_artifacts_stays_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "data" / "artifacts").mkdir(parents=True)
    pack(tmp_path / "other.tar", {NAME: b"one"})
    with unpacked(tmp_path) as folder:
        assert folder == tmp_path


BAD: dict[str, Callable[[tarfile.TarFile], object]] = {
    "a climbing path": lambda tar: add(tar, "data/artifacts/../../../outside", b"x"),
    "an absolute path": lambda tar: add(tar, "/data/artifacts/x", b"x"),
    "a file elsewhere": lambda tar: add(tar, "bin/tlm", b"x"),
    "a file in the place of the folder": lambda tar: add(tar, "data/artifacts", b"x"),
    "a link": lambda tar: add(tar, NAME, type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a linked folder": lambda tar: add(tar, "data/artifacts", type=tarfile.SYMTYPE, linkname="/tmp"),
    "a hard link": lambda tar: add(tar, NAME, type=tarfile.LNKTYPE, linkname="data/artifacts/x"),
    "a pipe": lambda tar: add(tar, NAME, type=tarfile.FIFOTYPE),
    "a device": lambda tar: add(tar, NAME, type=tarfile.CHRTYPE),
    "a file twice": lambda tar: (add(tar, NAME, b"x"), add(tar, NAME, b"y")),
    "a file that is a folder, too": lambda tar: (add(tar, NAME, b"x"), add(tar, f"{NAME}/y", b"y")),
    "a name too long": lambda tar: add(tar, f"data/artifacts/{'x' * 300}", b"x"),
    "nothing": lambda tar: None,
}


@pytest.mark.parametrize("fault", BAD)
def test_an_archive_of_anything_else_is_refused_whole_on_one_line(fault: str, tmp_path: Path, aside: Path) -> None:
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        if fault != "nothing":
            add(tar, NAME.replace("topics", "sound"), b"x")
        BAD[fault](tar)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as refused, unpacked(tmp_path / "bad.tar"):
        pytest.fail("it was unpacked")
    assert str(tmp_path / "bad.tar") in str(refused.value) and "\n" not in str(refused.value)
    assert sorted(tmp_path.rglob("*")) == before and not [*aside.iterdir()]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_what_is_cut_short_or_no_archive_is_refused(mode: str, tmp_path: Path, aside: Path) -> None:
    place = pack(tmp_path / "cut.tar", {NAME: os.urandom(50_000)}, mode)
    os.truncate(place, place.stat().st_size // 2)
    garbage = tmp_path / "garbage.tar"
    garbage.write_bytes(os.urandom(5_000))
    for bad in (place, garbage):
        with pytest.raises(UserError, match=r"is no whole archive: .* Copy it again\.$"), unpacked(bad):
            pytest.fail("it was unpacked")
    assert not [*aside.iterdir()]


def test_an_archive_that_claims_more_than_the_disk_holds_is_refused_unread(tmp_path: Path) -> None:
    member = tarfile.TarInfo(NAME)
    member.size = 1 << 60
    (tmp_path / "huge.tar").write_bytes(member.tobuf())
    with pytest.raises(UserError, match="holds more than there is room for"), unpacked(tmp_path / "huge.tar"):
        pytest.fail("it was unpacked")
