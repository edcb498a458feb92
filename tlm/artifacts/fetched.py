"""Files of an object store on this machine: fetched once, verified on arrival, and removed when the folder grows too large.

The folder belongs to one user, who alone may write to it. What was used longest ago goes first, and nothing that was used
within the last hour: whoever has just been given its path may be about to open it.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from tlm.artifacts.fingerprint import SHORT, file_digest
from tlm.artifacts.record import Record
from tlm.errors import UserError
from tlm.machine.files import remove

LIMIT_GIB = 20.0
IN_USE_SECONDS = 3600

_verified: dict[Path, tuple[int, int, int]] = {}
"""Files that this process has hashed, and what they were then."""
_tidying = threading.Lock()


def own_folder() -> Path:
    """The folder of this user on this machine, for what belongs to a store that is elsewhere: fetched files, locks, drafts,
    checkpoints.

    Raises:
        UserError: if it is another user's, who could put anything into it.
    """
    folder = Path(tempfile.gettempdir()) / f"tlm-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise UserError(f"{folder} is not this user's alone.", "Remove it, or set TMPDIR to a folder of your own.")
    return folder


def limit_bytes() -> int:
    """TLM_CACHE_GIB, in bytes. Raises UserError if it is no number."""
    given = os.environ.get("TLM_CACHE_GIB", "") or str(LIMIT_GIB)
    try:
        limit = float(given)
    except ValueError:
        limit = -1.0
    if not 0 <= limit < 1e9:
        raise UserError(f"TLM_CACHE_GIB={given} is no number of GiB.", "Give a number such as 20.")
    return int(limit * 2**30)


def place_of(record: Record, name: str) -> Path:
    """Where an output lies once it is fetched. All outputs of one artifact lie in one folder."""
    attempt = record.stored.attempt if record.stored else "0"
    return own_folder() / "fetched" / f"{record.key[:SHORT]}-{attempt}" / name


def is_sound(path: Path, record: Record, name: str) -> bool:
    """Whether a fetched file is there and is what the record says: hashed once by each process, and again if it changed."""
    try:
        status = path.stat()
        os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))  # used now: nobody removes it while it is hashed
    except OSError:
        return False
    now = (status.st_ino, status.st_size, status.st_mtime_ns)
    if _verified.get(path) != now:
        if status.st_size != record.outputs[name].bytes or file_digest(path) != record.outputs[name].sha256:
            return False
        _verified[path] = now
    return True


def arriving(path: Path) -> Path:
    """Where to write a file before it takes its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}-{os.getpid()}-{threading.get_ident()}")


def tidy(limit: int | None = None) -> None:
    """Remove files that were used longest ago until the rest has at most `limit` bytes (None: TLM_CACHE_GIB)."""
    if not _tidying.acquire(blocking=False):
        return
    try:
        _tidy(limit_bytes() if limit is None else limit)
    finally:
        _tidying.release()


def _tidy(limit: int) -> None:
    files = []
    for path in (own_folder() / "fetched").rglob("*"):
        with suppress(OSError):
            if path.is_file():
                status = path.stat()
                files.append((status.st_atime, status.st_size, path))
    total, before = sum(size for _, size, _ in files), time.time() - IN_USE_SECONDS
    for used, size, path in sorted(files):
        if total <= limit or used > before:
            break
        with suppress(OSError):
            if path.stat().st_atime <= before:  # it was not used since it was listed
                remove(path)
                total -= size
