"""An object store: none believes what was not written whole, and what is fetched is verified."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from artifacts.bucket.helping import bucket_of, folder_of, objects, on_machine, outputs
from artifacts.some_rows import FILES, a_step, publish

from tlm.artifacts import fetched
from tlm.artifacts.housekeeping import find_garbage, verify
from tlm.artifacts.in_progress import begin, end, unfinished
from tlm.artifacts.listing import DAMAGED
from tlm.artifacts.record import RECORD, Record
from tlm.artifacts.store import ArtifactStore
from tlm.errors import Gone, UserError


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
        assert store.inspect(record.ref).reason == "rows.bin differs from the digest in its record"
    publish(store, a_step())
    assert store.inspect(record.ref).status == "complete"


def test_files_of_a_copied_bucket_are_whole_though_their_checksums_are_others(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    record, bucket, opened = publish(store, a_step()), bucket_of(store), []
    find, open_ = bucket.fs.find, bucket.fs.open

    def of_a_copy(place: str, **more: Any) -> Any:
        return {path: {**info, "ETag": '"of-parts-2"'} for path, info in find(place, **more).items()}

    monkeypatch.setattr(bucket.fs, "find", of_a_copy)
    monkeypatch.setattr(bucket.fs, "open", lambda *given, **how: opened.append(how) or open_(*given, **how))
    assert store.inspect(record.ref, verify=False).status == "complete"
    assert "have other checksums than when they were written: they are read" in caplog.text
    assert sum("cache_type" in how for how in opened) == len(FILES), "as files are read to be hashed"
    assert [seen.status for _, seen in store.inspect_all()] == ["complete"]
    assert sum("cache_type" in how for how in opened) == len(FILES), "what was read is noted"
    assert find_garbage(store, keep={record.key}, hours=-1).uploads == ()
    bucket.write(f"{outputs(store, record)}/rows.bin", b"9" * 1_000)
    assert [seen.reason for _, seen in verify(store)] == ["rows.bin differs from the digest in its record"]
    store.delete(record.ref)
    assert objects(store) == set()


@pytest.mark.slow
def test_a_file_that_was_uploaded_in_other_parts_is_whole(
    server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_machine("here", tmp_path, monkeypatch)
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    store, step, content = ArtifactStore(f"s3://tlm-test/{uuid.uuid4().hex}"), a_step(), os.urandom(11 * 2**20)
    with store.draft(step.ref) as draft:
        (draft / "rows.bin").write_bytes(content)
        record = store.publish(step, draft, facts={}, provenance={}, seconds=1)
    bucket_of(store).fs.pipe_file(f"{outputs(store, record)}/rows.bin", content, chunksize=5 * 2**20)
    assert record.stored is not None
    there = bucket_of(store).fs.info(f"{outputs(store, record)}/rows.bin")["ETag"].strip('"')
    assert there != record.stored.checksums["rows.bin"]
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


def test_what_another_machine_makes_again_while_it_is_read_is_read_from_there(store: ArtifactStore, url: str) -> None:
    artifact, other = store.get(publish(store, a_step()).ref), ArtifactStore(url)
    other.delete(artifact.record.ref)
    again = publish(other, a_step())
    assert again.stored != artifact.record.stored
    assert artifact.path("rows.bin").read_bytes() == FILES["rows.bin"]


def test_what_is_no_longer_there_or_no_longer_the_same_when_it_is_read_is_one_clear_error(
    store: ArtifactStore, url: str
) -> None:
    artifact, other = store.get(publish(store, a_step()).ref), ArtifactStore(url)
    other.delete(artifact.record.ref)
    with pytest.raises(Gone, match="is missing. Run the same command again"):
        artifact.path("rows.bin")
    with other.draft(a_step().ref) as draft:
        (draft / "rows.bin").write_bytes(b"another")
        other.publish(a_step(), draft, facts={}, provenance={}, seconds=1)
    for name in FILES:
        with pytest.raises(Gone, match="was made again by another process while it was read. Run the same"):
            artifact.path(name)


@pytest.mark.parametrize("look", ["inspect", "inspect_each", "inspect_all"])
def test_what_another_machine_makes_again_between_its_listing_and_its_record_is_whole(
    look: str, store: ArtifactStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref, bucket, other = publish(store, a_step()).ref, bucket_of(store), ArtifactStore(url)
    cat, times = bucket.fs.cat, []

    def meanwhile(*given: Any, **more: Any) -> Any:
        times.append(1)
        if len(times) == 1:
            other.delete(ref)
            publish(other, a_step())
        return cat(*given, **more)

    monkeypatch.setattr(bucket.fs, "cat", meanwhile)
    found = {
        "inspect": lambda: store.inspect(ref),
        "inspect_each": lambda: store.inspect_each([ref])[ref.key],
        "inspect_all": lambda: dict(store.inspect_all())[str(ref)],
    }[look]()
    assert (found.status, found.reason) == ("complete", "")


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
