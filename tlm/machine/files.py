"""Files that may have become something else since they were written: read within bounds, and removed whatever they are."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DAMAGE = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL, errno.EFBIG, errno.ENXIO, errno.ENAMETOOLONG}
)
"""What goes wrong because something else stands in a file's place. Any other error (no permission, a disk that does not
answer) says nothing of what the file holds."""


def read_plain(path: str | os.PathLike[str], limit: int) -> bytes:
    """The content of a plain file of at most `limit` bytes, or of one that a link leads to.

    Raises:
        OSError: naming the path, if it cannot be read, is larger, or is a folder, a pipe or a device: none is waited for.
    """
    with open(_open(path), "rb") as file:
        _check_plain(file.fileno(), path)
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes", os.fspath(path))
    return content


def plain_size(path: str | os.PathLike[str]) -> int:
    """The size of a plain file, in bytes. Raises OSError as `read_plain`."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise _not_plain(path)
    return status.st_size


def remove(path: str | os.PathLike[str]) -> None:
    """Remove what is there, if anything is: a folder with all it holds, a file, a pipe, or a link, not what it leads to."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            os.unlink(path)


def make_folder(path: Path) -> None:
    """Make a folder of the program's own; what else stands in its place is removed."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        remove(path)
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock: one process at a time on this machine. The kernel releases it however its holder ends."""
    from filelock import FileLock

    make_folder(path.parent)
    if path.is_dir() or path.is_symlink():
        remove(path)
    with FileLock(path):
        yield


def reason(error: OSError) -> str:
    """What is wrong, in a few words and without the path."""
    return error.strerror or str(error) or type(error).__name__


def _open(path: str | os.PathLike[str]) -> int:
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would block


def _check_plain(descriptor: int, path: str | os.PathLike[str]) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise _not_plain(path)


def _not_plain(path: str | os.PathLike[str]) -> OSError:
    return OSError(errno.EINVAL, "it is no plain file", os.fspath(path))
