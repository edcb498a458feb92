"""What a listing of an object store says: which artifacts there are, and whether their files are as they were written.

Sizes and checksums of everything come with the listing, and records are read side by side. What is asked of many artifacts
costs a request for every thousand files, and one for each record.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Protocol

from tlm.artifacts import fetched
from tlm.artifacts.record import RECORD, RECORD_BYTES, NoRecord, Record, from_file

DAMAGED = ".damaged"
"""Folder of empty files beside the outputs of an attempt: of those that were read and were not what their record says."""

SOUND = ".sound"
"""Folder of folders of empty files there, `<checksum>/<name>`: of those that were read and are what their record says,
although a listing has another checksum of them than when they were written."""

Info = Mapping[str, Any]

log = logging.getLogger(__name__)


class Objects(Protocol):
    """What is asked of an object store beyond its listing."""

    fs: Any

    def fetch(self, wanted: Sequence[tuple[str, Record, str]]) -> None: ...

    def is_sound(self, folder: str, record: Record, name: str) -> bool: ...

    def note_sound(self, folder: str, record: Record, name: str, checksum: str) -> None: ...


def outputs_of(folder: str, record: Record) -> str:
    """Where the outputs of an artifact lie."""
    return f"{folder}/{record.stored.attempt}" if record.stored else folder


def checksum(info: Info) -> str:
    """The checksum that a listing has of a file; "" if this kind of store has none."""
    return str(info.get("ETag", "")).strip('"')


def sound_note(checksum: str, name: str) -> str:
    """Where it is noted, beside the outputs, that one with this checksum was read and is what its record says."""
    return f"{SOUND}/{checksum or 'none'}/{name}"


def written(info: Info) -> datetime:
    """When a file was written; now, if a listing does not say."""
    at = info.get("LastModified") or info.get("created")
    return datetime.fromtimestamp(at, UTC) if isinstance(at, float) else at or datetime.now(UTC)


NOT_CREATED = ("PreconditionFailed", "ConditionalRequestConflict")
"""What S3 answers where a file that was to be created is there, or is being created by somebody else."""
KINDS = ((FileNotFoundError, errno.ENOENT), (FileExistsError, errno.EEXIST), (PermissionError, errno.EACCES))


@contextmanager
def os_errors(place: str) -> Iterator[None]:
    """The errors of a store's client (no connection, no credentials) become OSErrors that name the place.

    A client's own numbers are not those of a disk: a token that is refused can be EINVAL, which of a file would be damage.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and (error.filename or error.errno in (errno.ENOSPC, errno.EDQUOT)):
            raise  # of a file on this machine, mostly
        number = next((number for kind, number in KINDS if isinstance(error, kind)), errno.EIO)
        number = errno.EEXIST if _code(error) in NOT_CREATED else number
        told = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise OSError(number, " ".join(told.split()), place) from error


def _code(error: BaseException) -> str:
    """What an S3 server calls an error of botocore's, or one of Python's that s3fs has made of it."""
    answer = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    return str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, dict) else ""


class Glance:
    """What one listing showed, and the records in it: many questions about many artifacts, with no further request."""

    def __init__(self, objects: Objects, listed: Mapping[str, Info], *, afresh: bool = False) -> None:
        self.objects = objects
        self.listed = listed
        self.afresh = afresh
        self.folders = [path.rpartition("/")[0] for path in listed if path.endswith(f"/{RECORD}")]
        self._held = {*self.folders}
        self._contents: dict[str, Any] = {}
        """Records that were read, or why not, by path."""
        self._read: dict[str, str] = {}
        """Outputs that were hashed because their checksum is another, by path: what is wrong with them."""

    def bring(self, folders: Collection[str]) -> None:
        """Read the records of these folders side by side."""
        paths = [f"{folder}/{RECORD}" for folder in folders if folder in self._held]
        wanted = [p for p in paths if p not in self._contents and self.listed[p]["size"] <= RECORD_BYTES]
        with os_errors(paths[0] if paths else ""):
            self._contents |= self.objects.fs.cat(wanted, on_error="return") if wanted else {}

    def prefetch(self, chosen: Callable[[Record, str], bool]) -> None:
        """Read all records side by side, and then fetch those chosen outputs that are as they were when they were written
        and are not here yet."""
        self.bring(self.folders)
        if self.afresh:
            return
        wanted = []
        for folder in self.folders:
            with suppress(NoRecord, OSError):
                record = self.record(folder)
                names = [n for n in record.outputs if chosen(record, n) and not self.fault(folder, record, n, False)]
                wanted += [
                    (folder, record, name)
                    for name in names
                    if not fetched.is_sound(fetched.place_of(record, name), record, name)
                ]
        if wanted:
            with suppress(FileNotFoundError):  # another machine has removed one since: each is asked for on its own
                self.objects.fetch(wanted)

    def exists(self, path: str) -> bool:
        return path in self._held or path in self.listed

    def is_folder(self, path: str) -> bool:
        return any(folder.startswith(f"{path}/") for folder in self.folders)

    def names(self, place: str) -> list[str]:
        """Of a stage, its artifacts: what has a record. Of the store, the stages that have any."""
        below = [folder.removeprefix(f"{place}/") for folder in self.folders if folder.startswith(f"{place}/")]
        return sorted({path.partition("/")[0] for path in below})

    def record(self, folder: str) -> Record:
        """Raises NoRecord, OSError."""
        path = f"{folder}/{RECORD}"
        self.bring([folder])
        content = self._contents.get(path)
        if content is None:
            there = path in self.listed
            raise OSError(errno.EFBIG, "it is too large", path) if there else FileNotFoundError(path)
        if isinstance(content, Exception):
            with os_errors(path):
                raise content
        return from_file(content)

    def fault(self, folder: str, record: Record, name: str, verify: bool) -> str:
        """What is wrong with an output, by its size and its checksum in the listing; "" if nothing is.

        Checksums of a copy may differ although its bytes do not (they depend on the parts in which a file was uploaded):
        the bytes are hashed then, whatever is asked, and that they are sound is noted, for all.

        Args:
            verify: ask what the store's bytes are. What was fetched from there, and verified, is taken for them.
        """
        place, output = outputs_of(folder, record), record.outputs[name]
        info = self.listed.get(f"{place}/{name}")
        if info is None:
            raise FileNotFoundError(f"{place}/{name}")
        if info["size"] != output.bytes:
            return f"has {info['size']} bytes, its record says {output.bytes}"
        if f"{place}/{DAMAGED}/{name}" in self.listed:
            return "differed from the digest in its record when it was read"
        now = checksum(info)
        noted = not self.afresh and f"{place}/{sound_note(now, name)}" in self.listed
        if record.stored and now != record.stored.checksums.get(name, "") and not noted:
            return self._fault_of_a_copy(folder, record, name, now)
        known = not verify or (not self.afresh and fetched.is_sound(fetched.place_of(record, name), record, name))
        if not known and not self.objects.is_sound(folder, record, name):
            return "differs from the digest in its record"
        return ""

    def _fault_of_a_copy(self, folder: str, record: Record, name: str, now: str) -> str:
        """As `fault`, of an output that has another checksum `now` than when it was written."""
        path = f"{outputs_of(folder, record)}/{name}"
        if path in self._read:
            return self._read[path]
        if not self._read:
            log.warning("%s and others have other checksums than when they were written: they are read, once.", path)
        sound = self.objects.is_sound(folder, record, name)
        self._read[path] = "" if sound else "differs from the digest in its record"
        if sound:
            self.objects.note_sound(folder, record, name, now)
        return self._read[path]
