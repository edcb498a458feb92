"""Artifacts that come home as tar archives: unpacked aside, each file checked before anything of it is written."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from tlm.errors import UserError
from tlm.execution.bundle import ARTIFACTS
from tlm.machine.files import reason

MOST_FILES = 1_000_000
"""Of an archive."""
ONLY_ARTIFACTS = f"An archive holds plain files under {ARTIFACTS}, as `tar -C FOLDER -cf FILE {ARTIFACTS}` packs them."


@contextmanager
def unpacked(place: Path) -> Iterator[Path]:
    """The folder that artifacts lie in: `place`, or a temporary one if `place` is an archive or a folder of archives.

    A folder of archives has files named *.tar or *.tar.*, and no artifacts itself.

    Raises:
        UserError: if an archive is damaged, holds what is no plain file under `data/artifacts`, or holds more than there is
            room for: then nothing of any of them is used.
    """
    archives = _archives_in(place)
    if not archives:
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="tlm-import-") as folder:
        for archive in archives:
            try:
                _unpack(archive, Path(folder))
            except (tarfile.TarError, LZMAError, zlib.error, EOFError, ValueError) as error:
                detail = " ".join(str(error).split()) or type(error).__name__
                raise UserError(f"{archive} is no whole archive: {detail}.", "Copy it again.") from error
            except OSError as error:
                raise UserError(f"{archive} cannot be unpacked: {reason(error)}.", "Copy it again.") from error
        if not (Path(folder) / ARTIFACTS).is_dir():
            raise UserError(f"There are no artifacts in {place}.", ONLY_ARTIFACTS)
        yield Path(folder)


def _archives_in(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    if not place.is_dir() or (place / ARTIFACTS).is_dir():
        return []
    return sorted(path for path in place.iterdir() if ".tar" in path.suffixes[-2:] and path.is_file())


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        for number, member in enumerate(tar):
            target = folder / _checked(archive, member)
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            if member.size > shutil.disk_usage(folder).free or number >= MOST_FILES:
                raise UserError(f"{archive} holds more than there is room for in {folder.parent}.", "Make room there.")
            content = tar.extractfile(member)
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "xb") as file:  # what another archive brought is not replaced
                shutil.copyfileobj(content, file)  # type: ignore[arg-type]  # it is a plain file


def _checked(archive: Path, member: tarfile.TarInfo) -> PurePosixPath:
    path = PurePosixPath(member.name)
    within = path.parts[:2] == PurePosixPath(ARTIFACTS).parts or (member.isdir() and member.name in (".", "data"))
    if not within or ".." in path.parts or not (member.isreg() or member.isdir()) or member.size < 0:
        raise UserError(
            f"{archive}: {member.name!r} is a link, no plain file or not under {ARTIFACTS}.", ONLY_ARTIFACTS
        )
    return path
