"""An object store that is away for a while costs time; one that stays away is an error; a refusal is believed at once."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import pytest
from artifacts.bucket.helping import bucket_of
from artifacts.some_rows import FILES, a_step, publish

from tlm.artifacts import patience
from tlm.artifacts.patience import PATIENCE_SECONDS, Patient, is_away
from tlm.artifacts.store import ArtifactStore

CLIENTS_OWN = type(
    "EndpointConnectionError", (type("ConnectionError", (Exception,), {"__module__": "botocore.exceptions"}),), {}
)
"""What botocore raises, which a base install does not have."""
AWAY: tuple[Callable[[], Exception], ...] = (
    ConnectionRefusedError,
    TimeoutError,
    CLIENTS_OWN,
    lambda: OSError(errno.EBUSY, "Service Unavailable"),
)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made; they are the only time that passes."""
    pauses: list[float] = []
    monkeypatch.setattr(patience, "sleep", pauses.append)
    monkeypatch.setattr(patience, "monotonic", lambda: sum(pauses))
    return pauses


class Flaky:
    """A file system that fails as often as it is told before each request that it answers."""

    def __init__(self, fs: Any, failures: Iterator[int], error: Callable[[], Exception]) -> None:
        self.fs, self.failures, self.error, self.left = fs, failures, error, next(failures)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.fs, name)

        def request(*args: Any, **options: Any) -> Any:
            if self.left:
                self.left -= 1
                raise self.error()
            self.left = next(self.failures)
            return found(*args, **options)

        return request if callable(found) else found


@pytest.mark.parametrize("error", AWAY)
@pytest.mark.parametrize("url", ["memory"], indirect=True)
def test_what_a_store_publishes_while_it_comes_and_goes_is_whole(
    error: Callable[[], Exception], store: ArtifactStore
) -> None:
    bucket = bucket_of(store)
    bucket.fs = Patient(Flaky(bucket.fs, cycle([0, 3, 1]), error))
    record = publish(store, a_step())
    assert store.inspect(record.ref).status == "complete"
    assert {name: store.get(record.ref).path(name).read_bytes() for name in FILES} == FILES


@pytest.mark.parametrize("failures", [0, 1, 20])
def test_a_request_is_made_again_until_it_is_answered(failures: int) -> None:
    calls = []

    def request() -> str:
        calls.append(1)
        if len(calls) <= failures:
            raise ConnectionResetError
        return "answer"

    assert patience.patiently(request)() == "answer" and len(calls) == failures + 1


def test_a_store_that_stays_away_is_an_error_in_the_end(clock: list[float]) -> None:
    def request() -> None:
        raise ConnectionRefusedError("nobody")

    with pytest.raises(ConnectionRefusedError, match="nobody"):
        patience.patiently(request)()
    assert PATIENCE_SECONDS < sum(clock) < 1.1 * PATIENCE_SECONDS


def test_a_request_of_many_files_is_made_again_whole(clock: list[float]) -> None:
    answers: list[dict[str, Any]] = [{"a": b"1", "b": ConnectionResetError()}, {"a": b"1", "b": FileNotFoundError()}]
    coming = iter(answers)
    found = patience.patiently(lambda: next(coming))()
    assert found is answers[1] and len(clock) == 1


@pytest.mark.parametrize(
    "error", [FileNotFoundError(), FileExistsError(), PermissionError(), OSError(errno.EINVAL, "")]
)
def test_what_is_refused_is_not_asked_twice(error: OSError, clock: list[float]) -> None:
    def request() -> None:
        raise error

    with pytest.raises(type(error)):
        patience.patiently(request)()
    assert not clock and not is_away(error)
