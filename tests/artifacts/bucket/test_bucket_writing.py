"""An object store: several machines write there at once, and the first to publish wins."""

from __future__ import annotations

import errno
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest
from artifacts.bucket.helping import bucket_of, objects
from artifacts.some_rows import FILES, a_step, publish
from helpers import python_environment

from tlm.artifacts.probe import probe
from tlm.artifacts.record import RECORD, Record
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.machine import interruption

# --- writing ---


def test_the_outputs_of_an_attempt_have_a_prefix_of_their_own_and_nothing_else_is_left(store: ArtifactStore) -> None:
    record = publish(store, a_step())
    assert record.stored is not None
    expected = {f"{record.ref}/{RECORD}", *(f"{record.ref}/{record.stored.attempt}/{name}" for name in FILES)}
    assert objects(store) == expected


def test_of_two_machines_the_first_to_publish_wins_and_the_other_takes_what_is_there(
    store: ArtifactStore, url: str
) -> None:
    step = a_step()
    other = ArtifactStore(url)
    with store.draft(step.ref) as slow:
        (slow / "rows.bin").write_bytes(b"slow")
        first = publish(other, step)
        assert store.publish(step, slow, facts={}, provenance={}, seconds=1) == first
    assert store.get(step.ref).path("rows.bin").read_bytes() == FILES["rows.bin"]
    assert len(objects(store)) == 1 + len(FILES), "what came late is removed"


def test_many_that_publish_at_once_agree_on_one(store: ArtifactStore) -> None:
    step = a_step()
    drafts = [store.draft(step.ref) for _ in range(1)]
    with drafts[0] as draft:
        copies = []
        for number in range(6):
            copy = draft.parent / f"copy-{number}"
            copy.mkdir()
            (copy / "rows.bin").write_bytes(bytes([number]) * 100)
            copies.append(copy)

        def put(copy: Path) -> Record:
            return store.publish(step, copy, facts={}, provenance={}, seconds=1)

        with ThreadPoolExecutor(6) as pool:
            records = list(pool.map(put, copies))
    assert len({record.outputs["rows.bin"].sha256 for record in records}) == 1
    assert store.inspect(step.ref).record == records[0]
    assert len(objects(store)) == 2


def test_what_is_adopted_takes_the_place_of_what_was_there(store: ArtifactStore, tmp_path: Path) -> None:
    record = publish(store, a_step())
    with store.lock(record.ref), store.draft(record.ref) as draft:
        (draft / "rows.bin").write_bytes(FILES["rows.bin"])
        (draft / "plots").mkdir()
        (draft / "plots/curve.txt").write_bytes(FILES["plots/curve.txt"])
        adopted = store.adopt(record, draft)
    assert adopted.stored != record.stored and adopted.outputs == record.outputs
    assert store.inspect(record.ref).record == adopted
    assert len(objects(store)) == 1 + len(FILES)


def test_a_store_that_overwrites_what_it_was_told_not_to_is_refused(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = bucket_of(store)
    bucket.check_usable()
    assert objects(store) == set()

    write = bucket.fs.pipe_file

    def careless(path: str, content: bytes, mode: str = "overwrite") -> None:
        write(path, content)

    monkeypatch.setattr(bucket.fs, "pipe_file", careless)
    with pytest.raises(UserError, match=r"does not honour conditional writes .* SeaweedFS"):
        bucket.check_usable()


def test_the_probe_goes_whatever_the_store_answers(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = bucket_of(store)
    create = bucket.create

    def away_for_the_second(path: str, content: bytes) -> bool:
        if content == b"second":
            raise OSError(errno.EIO, "connection refused", path)
        return create(path, content)

    monkeypatch.setattr(bucket, "create", away_for_the_second)
    with pytest.raises(UserError, match="cannot be written to: connection refused"):
        bucket.check_usable()
    assert objects(store) == set()


def test_a_signal_takes_the_probe_along(store: ArtifactStore) -> None:
    with probe(bucket_of(store)) as place:
        bucket_of(store).write(place, b"probe")
        interruption._open[-1]()  # as the handler of signals calls it, before it ends the process
        assert objects(store) == set()


# --- several processes ---

BUILDER = """
import sys
from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
store, step = ArtifactStore(sys.argv[1]), Step.model_validate_json(sys.argv[2])
with store.draft(step.ref) as draft:
    (draft / "rows.bin").write_bytes(sys.argv[3].encode() * 1000)
    sys.stdin.readline()
    record = store.publish(step, draft, facts={}, provenance={}, seconds=0)
print(record.outputs["rows.bin"].sha256, store.get(step.ref).path("rows.bin").read_bytes()[:1].decode())
"""


@pytest.mark.slow
def test_processes_of_several_machines_that_publish_at_once_agree(server: dict[str, str], tmp_path: Path) -> None:
    url, step = f"s3://tlm-test/{uuid.uuid4().hex}", a_step()
    started = []
    for number in range(3):
        (tmp_path / f"{number}").mkdir()
        environment = python_environment(**server, TMPDIR=str(tmp_path / f"{number}"))
        arguments = [sys.executable, "-c", BUILDER, url, step.model_dump_json(), str(number)]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(arguments, env=environment, **pipes))
    said = [process.communicate("go\n")[0].split() for process in started]
    assert len({tuple(each) for each in said}) == 1 and said[0]


class Refused(Exception):
    """As botocore says it where a server names no condition, which SeaweedFS does not."""

    response: ClassVar = {"Error": {"Code": "PreconditionFailed"}}


def refuse(*_: object, **__: object) -> None:
    raise OSError(errno.EINVAL, "At least one of the pre-conditions you specified did not hold") from Refused()


def test_a_file_that_was_there_and_is_gone_when_it_is_looked_at_is_created(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a lease is that somebody gives back at this moment."""
    bucket, path = bucket_of(store), f"{store.root}/a-lease"
    write, refusals = bucket.fs.pipe_file, iter((refuse, refuse))
    monkeypatch.setattr(bucket.fs, "pipe_file", lambda *told, **how: next(refusals, write)(*told, **how))
    assert bucket.create(path, b"mine")
    assert next(refusals, None) is None and bucket.read(path, 10) == b"mine"
    assert not bucket.create(path, b"another's") and bucket.create(path, b"mine")


def test_a_server_that_refuses_for_ever_is_not_asked_for_ever(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_of(store).fs, "pipe_file", refuse)
    with pytest.raises(FileExistsError, match="pre-conditions"):
        bucket_of(store).create(f"{store.root}/a-lease", b"mine")
