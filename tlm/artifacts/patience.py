"""A server that is away for a while is waited for: what is asked of an object store is asked again until it answers."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Mapping
from functools import wraps
from time import monotonic, sleep
from typing import Any

PATIENCE_SECONDS = 120.0
"""How long a request is made again, from the first that nobody answers."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
BUSY = (errno.EBUSY, getattr(errno, "EREMOTEIO", errno.EBUSY))
"""What s3fs makes of a server that says that it cannot answer now (503, InternalError)."""

log = logging.getLogger(__name__)


class Patient:
    """A file system of fsspec's whose requests wait for a server that is away. Each is one that may be made twice."""

    def __init__(self, fs: Any) -> None:
        self._fs = fs

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._fs, name)
        return patiently(found) if callable(found) else found


def patiently(request: Callable[..., Any]) -> Callable[..., Any]:
    """The request, made again as long as nobody answers, for PATIENCE_SECONDS at most; then the last error is raised.

    A request of many files that returns errors in place of some is made again whole.
    """

    @wraps(request)
    def asked(*args: Any, **options: Any) -> Any:
        began, pause = monotonic(), FIRST_PAUSE
        while True:
            error: BaseException | None = None
            try:
                answer = request(*args, **options)
                error = next(filter(is_away, answer.values()), None) if isinstance(answer, Mapping) else None
                if error is None:
                    return answer
            except Exception as raised:
                if not is_away(raised):
                    raise
                error = raised
            if monotonic() - began > PATIENCE_SECONDS:
                raise error
            if pause == FIRST_PAUSE:
                log.warning("the object store does not answer, and is waited for: %s", error)
            sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    return asked


def is_away(error: object) -> bool:
    """Whether an error says that nobody answers, or not now."""
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError):
        return error.errno in BUSY
    # Those of botocore, which a home on a disk does without, have no kind in common with Python's own.
    names = {f"{kind.__module__}.{kind.__name__}" for kind in type(error).__mro__}
    return bool(names & {"botocore.exceptions.ConnectionError", "botocore.exceptions.HTTPClientError"})
