"""An object store that is not there, refuses, or fails at the end: what is said, and what stays as it was."""

from __future__ import annotations

import errno
import socket
import threading

import pytest
from artifacts.bucket.helping import bucket_of, no_answer
from artifacts.some_rows import a_step, publish

from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.machine.file_errors import file_error


def test_a_store_that_does_not_answer_is_one_line_that_names_it(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_of(store).fs, "find", no_answer)
    with pytest.raises(OSError) as raised:
        list(store.inspect_all())
    assert str(file_error(raised.value)).strip() == f"{store.root}: connection refused."


@pytest.mark.slow
def test_a_store_that_is_not_there_is_asked_once_and_told_by_every_command(
    server: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.commands.base import runtime

    for name, value in server.items():
        monkeypatch.setenv(name, value)
    asked = []

    def hang_up(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            asked.append(1)
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=hang_up, args=(listener,), daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(UserError, match="TLM_HOME=s3://nowhere/tlm.*: no object store answers.*AWS_ENDPOINT_URL"):
            runtime(home="s3://nowhere/tlm")
        assert len(asked) <= 2, "its client connects again where a connection is closed, and nobody else does"
    with pytest.raises(UserError, match="no object store answers"):
        ArtifactStore("s3://nowhere/tlm").shelf.check_usable()


def test_a_refusal_of_the_client_is_no_damage(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    record = publish(store, a_step())
    refused = OSError(errno.EINVAL, "The provided token is malformed")  # as s3fs says it
    with monkeypatch.context() as away:
        away.setattr(bucket_of(store).fs, "cat", lambda paths, **_: dict.fromkeys(paths, refused))
        assert store.inspect(record.ref).status == "unreadable"
        with pytest.raises(UserError, match="cannot be read"):
            publish(store, a_step())
    assert store.inspect(record.ref).record == record


def test_a_cache_limit_that_is_no_number_is_refused_before_any_work(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TLM_CACHE_GIB", "much")
    with pytest.raises(UserError, match="TLM_CACHE_GIB=much is no number"):
        store.shelf.check_usable()


def test_what_is_published_is_published_though_its_checkpoints_cannot_be_removed(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(key: str) -> None:
        raise OSError(errno.EIO, "connection refused", key)

    monkeypatch.setattr(bucket_of(store), "forget_checkpoints", away)
    assert publish(store, a_step()) == store.inspect(a_step().ref).record
