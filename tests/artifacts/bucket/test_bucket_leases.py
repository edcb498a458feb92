"""What goes with the artifacts of an object store: leases, checkpoints, and what was cut short."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from artifacts.bucket.helping import bucket_of, folder_of, no_answer, objects, on_machine
from artifacts.some_rows import FILES, a_step, publish

from tlm.artifacts import lease
from tlm.artifacts.housekeeping import collect, find_garbage
from tlm.artifacts.in_progress import begin, unfinished
from tlm.artifacts.lease import leased
from tlm.artifacts.left_over import LEASES, MIRRORED
from tlm.artifacts.listing import Info
from tlm.artifacts.probe import PROBE
from tlm.artifacts.record import RECORD
from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore

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


def test_leases_and_probes_of_the_dead_are_garbage_and_nothing_of_a_key_whose_lease_is_renewed(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, (living, dead) = bucket_of(store), (a_step(0), a_step(1))

    def left_of(step: Step) -> set[str]:
        checkpoint = f"{MIRRORED}/{step.key[:12]}/000000007.safetensors"
        return {f"{LEASES}/{step.key}", checkpoint, f"{step.ref}/0123456789abcdef/rows.bin"}

    now, old = {f"{LEASES}/{living.key}", f"{PROBE}new"}, left_of(dead) | {f"{PROBE}old"}
    for name in now | old | left_of(living):
        bucket.write(f"{store.root}/{name}", b"12345")

    def written(info: Info) -> datetime:
        hours = 0 if info["name"].endswith(tuple(now)) else 2
        return datetime.now(UTC) - timedelta(hours=hours)

    monkeypatch.setattr("tlm.artifacts.left_over.written", written)
    garbage = find_garbage(store, hours=0)
    assert {path.removeprefix(f"{store.root}/") for path in garbage.uploads} == old
    collect(store, garbage)
    assert objects(store) == now | left_of(living)


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


def checkpoints_in(store: ArtifactStore) -> list[str]:
    return sorted(path.rsplit("/", 1)[-1] for path in objects(store) if path.startswith(MIRRORED))


def test_a_broken_checkpoint_in_the_store_is_passed_over_for_the_one_before(
    store: ArtifactStore, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    from tlm.training.checkpoint import Checkpoints

    ref, names = a_step().ref, ["000000003.safetensors", "000000007.safetensors"]
    training = Checkpoints(store.checkpoints(ref), "run", every=0)
    for step in (1, 3, 7):
        with pytest.raises(ZeroDivisionError), store.checkpoints_kept(ref):
            training.save(step, lambda: {"model.weight": torch.zeros(100)}, {})
            raise ZeroDivisionError
    assert checkpoints_in(store) == names, "the newest and the one before"
    newest = f"{store.root}/{MIRRORED}/{ref.key[:12]}/{names[1]}"
    bucket_of(store).write(newest, bucket_of(store).read(newest, 10_000)[:-5])
    on_machine("there", tmp_path, monkeypatch)
    other = ArtifactStore(url)
    with pytest.raises(ZeroDivisionError), other.checkpoints_kept(ref):
        state = Checkpoints(other.checkpoints(ref), "run").latest()
        raise ZeroDivisionError
    assert state is not None and state.step == 3
    assert f"checkpoint {names[1]} is not usable" in caplog.text
    assert checkpoints_in(other) == names[:1], "nobody is brought the broken one again"


def test_a_training_that_had_no_use_for_the_checkpoint_of_a_later_step_puts_its_own_in_its_place(
    store: ArtifactStore,
) -> None:
    ref = a_step().ref
    bucket_of(store).write(f"{store.root}/{MIRRORED}/{ref.key[:12]}/000000009.safetensors", b"of other code")
    with pytest.raises(ZeroDivisionError), store.checkpoints_kept(ref):
        folder = store.checkpoints(ref)
        (folder / "000000009.safetensors").unlink()  # as the training does, which then begins anew
        (folder / "000000002.safetensors").write_bytes(b"2")
        raise ZeroDivisionError
    assert checkpoints_in(store) == ["000000002.safetensors"]
