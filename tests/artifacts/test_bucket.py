"""An object store: several machines write there at once, and none believes what was not written whole."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest
from helpers import python_environment
from object_stores import seaweed
from test_store import FILES, a_step, publish

from tlm.artifacts import fetched, lease
from tlm.artifacts.bucket import LEASES, MIRRORED, Bucket
from tlm.artifacts.housekeeping import collect, find_garbage, verify
from tlm.artifacts.in_progress import begin, end, unfinished
from tlm.artifacts.lease import leased
from tlm.artifacts.listing import DAMAGED, outputs_of
from tlm.artifacts.record import RECORD, Record
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.machine.file_errors import file_error


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with seaweed(tmp_path_factory.mktemp("weed")) as environment:
        yield environment


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    on_machine("here", tmp_path, monkeypatch)
    if request.param == "memory":
        yield f"memory://{uuid.uuid4().hex}"
        fsspec.filesystem("memory").store.clear()
        return
    for name, value in request.getfixturevalue("server").items():
        monkeypatch.setenv(name, value)
    yield f"s3://tlm-test/{uuid.uuid4().hex}"


@pytest.fixture
def store(url: str) -> ArtifactStore:
    return ArtifactStore(url)


def on_machine(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on this process works on another machine: one with other locks, drafts and fetched files."""
    (tmp_path / name).mkdir(exist_ok=True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))


def bucket_of(store: ArtifactStore) -> Bucket:
    assert isinstance(store.shelf, Bucket)
    return store.shelf


def folder_of(store: ArtifactStore, record: Record) -> str:
    return f"{store.root}/{record.ref}"


def outputs(store: ArtifactStore, record: Record) -> str:
    return outputs_of(folder_of(store, record), record)


def objects(store: ArtifactStore) -> set[str]:
    return {path.removeprefix(f"{store.root}/") for path in bucket_of(store)._find(store.root)}


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

    def careless(path: str, content: bytes, mode: str = "overwrite") -> None:
        type(bucket.fs).pipe_file(bucket.fs, path, content)

    monkeypatch.setattr(bucket.fs, "pipe_file", careless)
    with pytest.raises(UserError, match=r"does not honour conditional writes .* SeaweedFS"):
        bucket.check_usable()


# --- reading ---


def test_an_upload_under_way_is_missing_and_stays(store: ArtifactStore) -> None:
    step = a_step()
    with store.draft(step.ref) as draft:
        (draft / "rows.bin").write_bytes(b"rows")
        uploaded = bucket_of(store).upload(publish_nowhere(store, step, draft), draft, f"{store.root}/{step.ref}")
    assert store.inspect(step.ref).status == "missing"
    assert store.inspect_each([step.ref])[step.key].status == "missing"
    assert list(store.inspect_all()) == []
    assert store.delete(step.ref) is False
    record = publish(store, step)
    assert store.delete(record.ref)
    assert objects(store) == {f"{record.ref}/{uploaded.stored.attempt}/rows.bin"}, "another may be about to publish it"


def publish_nowhere(store: ArtifactStore, step: Any, draft: Path) -> Record:
    """The record that would be published of a draft."""
    elsewhere = ArtifactStore(f"memory://{uuid.uuid4().hex}")
    return elsewhere.publish(step, draft, facts={}, provenance={}, seconds=1).model_copy(update={"stored": None})


def test_what_another_machine_has_just_made_is_seen_at_once(store: ArtifactStore, url: str) -> None:
    assert store.inspect(a_step().ref).status == "missing"
    record = publish(ArtifactStore(url), a_step())
    assert store.inspect(a_step().ref).status == "complete"
    ArtifactStore(url).delete(record.ref)
    assert store.inspect(a_step().ref).status == "missing"


def test_files_that_were_overwritten_are_damage_by_the_listing_alone(store: ArtifactStore) -> None:
    record = publish(store, a_step())
    bucket = bucket_of(store)
    bucket.remove_file(f"{outputs(store, record)}/rows.bin")
    assert store.inspect(record.ref).reason == "rows.bin is missing"
    bucket.write(f"{outputs(store, record)}/rows.bin", b"short")
    assert store.inspect(record.ref).reason == "rows.bin has 5 bytes, its record says 1000"
    if not str(bucket.fs.protocol).startswith("memory"):  # whose listings have no checksums
        bucket.write(f"{outputs(store, record)}/rows.bin", b"9" * 1_000)
        assert store.inspect(record.ref).reason == "rows.bin has another checksum than when it was written"
    publish(store, a_step())
    assert store.inspect(record.ref).status == "complete"


def test_what_is_read_is_verified_and_what_was_found_damaged_is_damaged_for_all(
    store: ArtifactStore, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = publish(store, a_step())
    bit_rot(store, record, "rows.bin")
    assert store.inspect(record.ref).status == "complete", "a listing does not show it"
    with pytest.raises(LookupError, match=r"is damaged \(rows.bin differs from the digest"):
        store.get(record.ref).path("rows.bin")
    on_machine("there", tmp_path, monkeypatch)
    found = ArtifactStore(url).inspect(record.ref)
    assert (found.status, found.reason) == (
        "damaged",
        "rows.bin differed from the digest in its record when it was read",
    )
    publish(store, a_step())
    assert store.get(record.ref).path("rows.bin").read_bytes() == FILES["rows.bin"]
    assert not any(DAMAGED in path for path in objects(store))


def bit_rot(store: ArtifactStore, record: Record, name: str) -> None:
    """Change a file behind the back of its record and of the listing."""
    bucket = bucket_of(store)
    place = f"{outputs(store, record)}/{name}"
    bucket.write(place, b"9" * record.outputs[name].bytes)
    assert record.stored is not None
    checksum = str(bucket.fs.info(place).get("ETag", "")).strip('"')
    stored = record.stored.model_copy(update={"checksums": {**record.stored.checksums, name: checksum}})
    from tlm.artifacts.record import to_file

    content = to_file(record.model_copy(update={"stored": stored}))
    bucket.write(f"{folder_of(store, record)}/{RECORD}", content)


def test_verification_reads_what_is_there_and_not_what_was_fetched(store: ArtifactStore) -> None:
    record = publish(store, a_step())
    store.get(record.ref).path("rows.bin")
    bit_rot(store, record, "rows.bin")
    assert [seen.status for _, seen in store.inspect_all(verify=lambda record, name: True)] == ["complete"]
    found = dict(verify(store))[str(record.ref)]
    assert (found.status, found.reason) == ("damaged", "rows.bin differs from the digest in its record")
    assert store.inspect(record.ref).status == "damaged", "the next run makes it again"


def test_a_fetched_file_is_fetched_again_when_its_copy_was_damaged(store: ArtifactStore) -> None:
    record = publish(store, a_step())
    copy = store.get(record.ref).path("rows.bin")
    copy.write_bytes(b"9" * 1_000)
    assert store.get(record.ref).path("rows.bin").read_bytes() == FILES["rows.bin"]


def test_what_is_fetched_is_kept_up_to_a_limit_and_what_is_in_use_stays(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [store.get(publish(store, a_step(seed)).ref).path("rows.bin") for seed in range(3)]
    then = time.time() - 2 * fetched.IN_USE_SECONDS
    for age, path in enumerate(paths[:2]):
        os.utime(path, (then - age, path.stat().st_mtime))
    fetched.tidy(limit=2_500)
    assert [path.exists() for path in paths] == [True, False, True]
    fetched.tidy(limit=0)
    assert [path.exists() for path in paths] == [False, False, True]
    monkeypatch.setenv("TLM_CACHE_GIB", "much")
    with pytest.raises(UserError, match="TLM_CACHE_GIB=much is no number"):
        fetched.tidy()


def test_a_file_that_is_being_hashed_is_in_use(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    record = publish(store, a_step())
    path = store.get(record.ref).path("rows.bin")
    then = time.time() - 2 * fetched.IN_USE_SECONDS
    os.utime(path, (then, path.stat().st_mtime))
    fetched._verified.clear()
    digest = fetched.file_digest

    def meanwhile(place: Path) -> str:
        fetched.tidy(limit=0)
        return digest(place)

    monkeypatch.setattr(fetched, "file_digest", meanwhile)
    assert store.get(record.ref).path("rows.bin").read_bytes() == FILES["rows.bin"]


def test_a_file_that_another_machine_removes_while_it_is_brought_near_is_missing(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, bucket = publish(store, a_step()), bucket_of(store)
    fetch = bucket.fetch

    def too_late(wanted: Any) -> None:
        bucket.remove_file(f"{outputs(store, record)}/rows.bin")
        fetch(wanted)

    monkeypatch.setattr(bucket, "fetch", too_late)
    [(_, found)] = store.inspect_all(verify=lambda record, name: True)
    assert (found.status, found.reason) == ("damaged", "rows.bin is missing")
    assert not list((fetched.own_folder() / "fetched").rglob(".*")), "nor is anything left half fetched"


def test_a_folder_that_others_may_write_to_is_not_used_for_what_is_fetched(
    tmp_path: Path, store: ArtifactStore
) -> None:
    record = publish(store, a_step())
    fetched.own_folder().chmod(0o777)
    with pytest.raises(UserError, match="is not this user's alone"):
        store.get(record.ref).path("rows.bin")


def test_many_artifacts_are_looked_up_by_one_listing_of_each_stage(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [a_step(seed) for seed in range(5)]
    for step in steps:
        publish(store, step)
    bucket, listed = bucket_of(store), []
    find = bucket.fs.find
    monkeypatch.setattr(bucket.fs, "find", lambda place, **more: listed.append(place) or find(place, **more))
    found = store.inspect_each(step.ref for step in steps)
    assert [seen.status for seen in found.values()] == ["complete"] * 5
    assert listed == [f"{store.root}/source"]


def test_notes_of_studies_under_way_come_and_go(store: ArtifactStore) -> None:
    begin(store, "study", [a_step()])
    assert [study.name for study in unfinished(store)] == ["study"]
    end(store, [a_step()])
    assert list(unfinished(store)) == []


# --- what is left over ---


def test_uploads_that_were_cut_short_and_spent_checkpoints_are_garbage_after_a_while(store: ArtifactStore) -> None:
    record = publish(store, a_step())
    bucket = bucket_of(store)
    cut = f"{folder_of(store, record)}/0123456789abcdef/rows.bin"
    spent = f"{store.root}/{MIRRORED}/{a_step(1).key[:12]}/000000007.safetensors"
    for path in (cut, spent):
        bucket.write(path, b"12345")
    assert find_garbage(store, keep={record.key}, hours=1).uploads == ()
    kept = find_garbage(store, keep={record.key, a_step(1).key}, hours=-1)
    assert (kept.uploads, kept.bytes) == ((cut,), 5)
    garbage = find_garbage(store, keep={record.key}, hours=-1)
    assert set(garbage.uploads) == {cut, spent}
    collect(store, garbage)
    assert len(objects(store)) == 1 + len(FILES) and store.inspect(record.ref).status == "complete"


def test_what_lies_beside_a_record_that_cannot_be_read_is_no_garbage(store: ArtifactStore) -> None:
    record = publish(store, a_step())
    bucket_of(store).write(f"{folder_of(store, record)}/{RECORD}", b'{"format": 3}')
    assert find_garbage(store, hours=-1).uploads == ()


def test_notes_that_cannot_be_read_are_not_taken_for_none(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(store, "study", [a_step()])
    with monkeypatch.context() as away, pytest.raises(OSError, match="connection refused"):
        away.setattr(bucket_of(store).fs, "cat_file", no_answer)
        list(unfinished(store))
    with monkeypatch.context() as away, pytest.raises(OSError, match="connection refused"):
        away.setattr(bucket_of(store).fs, "ls", no_answer)
        list(unfinished(store))


def no_answer(*_: Any, **__: Any) -> Any:
    raise RuntimeError("connection refused")


# --- errors ---


def test_a_store_that_does_not_answer_is_one_line_that_names_it(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_of(store).fs, "find", no_answer)
    with pytest.raises(OSError) as raised:
        list(store.inspect_all())
    assert str(file_error(raised.value)).strip() == f"{store.root}: connection refused."


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


# --- leases ---


def test_a_lease_is_gone_with_its_block_and_keeps_another_machine_waiting(
    store: ArtifactStore, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.02)
    ref, order = a_step().ref, []
    with store.lock(ref):
        on_machine("there", tmp_path, monkeypatch)
        other = ArtifactStore(url)

        def wait() -> None:
            with other.lock(ref):
                order.append("there")

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.2)
        order.append("here")
    thread.join(20)
    assert order == ["here", "there"]
    assert objects(store) == set()


def test_the_lease_of_a_machine_that_is_gone_is_taken_over(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(lease, "LOST_SECONDS", 0.1)
    place = f"{store.root}/{LEASES}/{a_step().key}"
    bucket_of(store).write(place, json.dumps({"machine": "gone", "holder": "x", "beat": 3}).encode())
    with store.lock(a_step().ref):
        assert b"gone" not in bucket_of(store).read(place, 1_000)


def test_the_lease_of_a_process_of_this_machine_that_has_died_is_taken_over_at_once(store: ArtifactStore) -> None:
    bucket, place = bucket_of(store), f"{store.root}/{LEASES}/key"
    bucket.write(place, json.dumps({"machine": "this", "holder": "dead", "beat": 3}).encode())
    with leased(bucket, place, "this"):
        assert json.loads(bucket.read(place, 1_000))["holder"] != "dead"


def test_a_lost_lease_costs_nothing_but_time(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.02)
    place, theirs = f"{store.root}/{LEASES}/{a_step().key}", json.dumps({"machine": "m", "holder": "other", "beat": 0})
    with store.lock(a_step().ref):
        bucket_of(store).write(place, theirs.encode())
        time.sleep(0.1)
    assert bucket_of(store).read(place, 1_000) == theirs.encode(), "it is theirs now"


# --- checkpoints ---


def test_checkpoints_follow_the_store_to_the_machine_that_goes_on(
    store: ArtifactStore, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = a_step().ref
    with pytest.raises(ZeroDivisionError), store.checkpoints_kept(ref):
        for step in (3, 7):
            folder = store.checkpoints(ref)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{step:09d}.safetensors").write_bytes(b"%d" % step)
        raise ZeroDivisionError
    on_machine("there", tmp_path, monkeypatch)
    other = ArtifactStore(url)
    assert not other.checkpoints(ref).exists()
    with other.checkpoints_kept(ref):
        assert [path.read_bytes() for path in other.checkpoints(ref).iterdir()] == [b"7"]
    publish(other, a_step())
    assert not other.checkpoints(ref).exists() and not any(MIRRORED in path for path in objects(store))


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
