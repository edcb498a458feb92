"""What went wrong with a file, in one line that names it; a full disk is told for what it is, whoever ran into it.

Libraries say it in many ways: as an OSError, as an exception of their own, as a text from C or Rust, or as a server that
does not answer. Under any of them, a disk without room is a disk without room.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

from tlm.errors import UserError
from tlm.machine.files import reason

ROOM = 1 << 20
"""Bytes. Where less is free, what fails fails for want of it."""
FULL = re.compile(
    r"no space left on device|disk is full|disk quota exceeded|\bos error 28\b|\d+ requested and \d+ written",
    re.IGNORECASE,
)
"""As the C library, SQLite, Rust and numpy say it."""
CIRCLE = re.compile(r"Symlink loop from '(.+)'")
"""As pathlib says that a link leads to itself."""
REMEDY = "Make room there and run the same command again: what is finished is kept."


def file_error(error: BaseException, place: str | os.PathLike[str] = "") -> UserError | None:
    """The error to show for one that a file caused, directly or not; None if it is of another kind.

    Args:
        place: where what failed was writing: if there is no room, that is why.
    """
    if isinstance(error, UserError):
        return None
    if full := full_disk(error, place):
        return full
    named = error if isinstance(error, OSError) else error.__cause__
    if isinstance(named, OSError) and named.errno and named.filename:
        return UserError(f"{os.fsdecode(named.filename)}: {reason(named)}.", _remedy(named.errno))
    if isinstance(error, RuntimeError) and (circle := CIRCLE.match(str(error))):
        return UserError(f"{circle[1]}: {os.strerror(errno.ELOOP)}.", _remedy(errno.ELOOP))
    return None


def full_disk(error: BaseException, place: str | os.PathLike[str] = "") -> UserError | None:
    """The error to show for one that a full disk caused; None if it is of another kind. `place` is as in `file_error`."""
    for cause in _causes(error):
        if getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or FULL.search(str(cause)):
            return _full(getattr(cause, "filename2", None) or getattr(cause, "filename", None) or place)
    return _full(place) if place and _free(place) < ROOM else None


def _remedy(number: int) -> str:
    if number in (errno.EACCES, errno.EPERM):
        return "Make it readable and writable for yourself."
    in_the_way = number in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.EINVAL)
    return "Something else stands in its place: move that away." if in_the_way else ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised from, or in the middle of, and so on."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _full(place: str | bytes | os.PathLike[str]) -> UserError:
    return UserError(f"No space is left on the disk{f' of {os.fsdecode(place)}' if place else ''}.", REMEDY)


def _free(place: str | os.PathLike[str]) -> int:
    """Bytes that can be written there, or where it would be made."""
    path = os.path.abspath(place)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize
