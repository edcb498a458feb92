"""Artifacts in a folder of this machine, or of a file system that it has mounted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tlm.artifacts.fingerprint import file_digest
from tlm.artifacts.probe import PROBE
from tlm.artifacts.record import RECORD, RECORD_BYTES, Record, from_file, to_file
from tlm.machine.files import make_folder, plain_size, read_plain, remove


class Disk:
    """What a store asks of a place that is a folder. Paths are absolute."""

    def __init__(self, root: str) -> None:
        self.root = root

    # --- reading ---

    def glance(self, places: Collection[str], *, afresh: bool = False) -> Disk:
        """What lies in these places, to ask much of it: on a disk each question is cheap, and answered afresh."""
        return self

    def bring(self, folders: Collection[str]) -> None:
        """Bring records near that are about to be read: they are."""

    def prefetch(self, chosen: Callable[[Record, str], bool]) -> None:
        """Bring outputs near that are about to be hashed: they are."""

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def is_folder(self, path: str) -> bool:
        return os.path.isdir(path)

    def names(self, place: str) -> list[str]:
        """What lies in a folder. Raises OSError."""
        return os.listdir(place)

    def record(self, folder: str) -> Record:
        """Raises NoRecord, OSError."""
        return from_file(self.read(f"{folder}/{RECORD}", RECORD_BYTES))

    def read(self, path: str, limit: int) -> bytes:
        """A file of at most `limit` bytes. Raises OSError."""
        return read_plain(path, limit)

    def fault(self, folder: str, record: Record, name: str, verify: bool) -> str:
        """What is wrong with an output; "" if nothing is. Raises OSError if it is none, or cannot be read."""
        path, output = f"{folder}/{name}", record.outputs[name]
        size = plain_size(path)
        if size != output.bytes:
            return f"has {size} bytes, its record says {output.bytes}"
        if verify and file_digest(path) != output.sha256:
            return "differs from the digest in its record"
        return ""

    def at_hand(self, record: Record, name: str) -> Path | None:
        """Where an output can be opened, if that is known without looking: its folder may have another name."""
        return None

    def local(self, folder: str, record: Record, name: str) -> Path:
        """Where an output can be opened."""
        return Path(folder) / name

    # --- writing ---

    def check_answers(self) -> None:
        """Raise UserError if nobody answers there: a disk does, or says why not when it is asked."""

    def check_usable(self) -> None:
        """Raise UserError if the place is not fit to hold artifacts: a folder is."""

    def write(self, path: str, content: bytes) -> None:
        """Write a small file, whole or not at all."""
        make_folder(Path(path).parent)
        arriving = Path(f"{path}.arriving-{os.getpid()}")
        arriving.write_bytes(content)
        os.replace(arriving, path)

    def complete(self, record: Record, draft: Path) -> Record:
        """Write the record of a draft beside its outputs, and return it."""
        record = record.model_copy(update={"stored": None})
        (draft / RECORD).write_bytes(to_file(record))
        return record

    def put(self, draft: Path, folder: str) -> None:
        """Put a draft that has its record in place, in one move. Nothing may be there."""
        Path(folder).parent.mkdir(parents=True, exist_ok=True)
        os.rename(draft, folder)

    def remove(self, path: str) -> None:
        """Remove an artifact, its record first, or a file."""
        if os.path.isdir(path) and not os.path.islink(path):  # what a link leads to is not the store's
            remove(f"{path}/{RECORD}")
        remove(path)

    def remove_file(self, path: str) -> None:
        remove(path)

    # --- what only a place of several machines needs ---

    @contextmanager
    def lease(self, key: str, locks: Path) -> Iterator[None]:
        """Beyond the lock of this machine: nothing."""
        yield

    @contextmanager
    def mirrored(self, key: str, checkpoints: Path) -> Iterator[None]:
        """Checkpoints lie in the store already."""
        yield

    def forget_checkpoints(self, key: str) -> None:
        """Beyond those of this machine there are none."""

    def left_over(self, needed: Iterable[str], hours: float) -> Mapping[str, int]:
        """Probes that were left more than `hours` ago, by path, and their bytes. Drafts are the building place's."""
        left, since = {}, time.time() - max(hours, 1) * 3600
        with suppress(OSError):
            for name in os.listdir(self.root):
                status = os.lstat(f"{self.root}/{name}")
                if name.startswith(PROBE) and status.st_mtime < since:
                    left[f"{self.root}/{name}"] = status.st_size
        return left
