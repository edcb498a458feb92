"""Damage is noticed and named; what cannot be read is left alone."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from artifacts.some_rows import a_step, flip, publish
from helpers import edit_record, unseal

from tlm.artifacts.record import RECORD, SEAL
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.execution.execute import execute
from tlm.machine.files import plain_size, remove
from tlm.machine.runtime import Runtime


def drop(folder: Path, field: str) -> None:
    tree = json.loads((folder / RECORD).read_text())
    del tree[field]
    (folder / RECORD).write_text(json.dumps(tree))


def replace(folder: Path, name: str = "", *, how: Callable[[Path], object]) -> None:
    """Put something else in the place of the artifact, or of one of its files."""
    remove(folder / name)
    how(folder / name)


def bind(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # the name of a socket may have a hundred characters
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(before)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "deleted file": (lambda folder: (folder / "rows.bin").unlink(), "rows.bin is missing"),
    "deleted nested file": (lambda folder: (folder / "plots/curve.txt").unlink(), "plots/curve.txt is missing"),
    "truncated": (lambda folder: os.truncate(folder / "rows.bin", 10), "rows.bin has 10 bytes, its record says 1000"),
    "flipped byte": (lambda folder: flip(folder / "rows.bin"), "rows.bin differs from the digest"),
    "no record": (lambda folder: (folder / RECORD).unlink(), "record.json is missing"),
    "empty record": (lambda folder: (folder / RECORD).write_text(""), "record.json is not a record"),
    "half a record": (lambda folder: os.truncate(folder / RECORD, 100), "record.json is not a record"),
    "binary record": (lambda folder: (folder / RECORD).write_bytes(b"\xff\x00"), "record.json is not a record"),
    "record with a changed config": (
        lambda folder: (folder / RECORD).write_text((folder / RECORD).read_text().replace("0.25", "0.5")),
        "record.json was edited: it differs from its own digest",
    ),
    "record with a changed config and its digest": (
        lambda folder: edit_record(folder, config={"seed": 0, "share": 0.5}),
        "record.json does not describe key",
    ),
    "record with a changed fact": (
        lambda folder: edit_record(folder, sealed=False, facts={}),
        "record.json was edited",
    ),
    "record without its digest": (lambda folder: drop(folder, SEAL), "record.json was edited"),
    "config without a key": (
        lambda folder: (folder / RECORD).write_text((folder / RECORD).read_text().replace("0.25", "NaN")),
        "record.json is not a record (expected value at line",
    ),
    "a number out of range": (
        lambda folder: (folder / RECORD).write_text((folder / RECORD).read_text().replace("0.25", "1e999")),
        "record.json is not a record ($.config.share: inf has no canonical JSON)",
    ),
    "a record nested without end": (
        lambda folder: (folder / RECORD).write_text("[" * 100_000),
        "record.json is not a record (recursion limit",
    ),
    "a record of another kind": (lambda folder: (folder / RECORD).write_text("[]"), "record.json is not a record"),
    **{
        f"{what} in the place of {name}": (partial(replace, name=name, how=how), f"{name}: ")
        for name in (RECORD, "rows.bin")
        for what, how in {
            "a folder": Path.mkdir,
            "a pipe": os.mkfifo,
            "an endless file": lambda path: path.symlink_to("/dev/zero"),
            "a link to itself": lambda path: path.symlink_to(path),
            "a socket": lambda path: bind(path),
        }.items()
    },
    **{
        f"{what} in the place of the artifact": (partial(replace, how=how), f"{RECORD}")
        for what, how in {
            "a file": Path.touch,
            "a pipe": os.mkfifo,
            "a link to itself": lambda path: path.symlink_to(path),
            "a link to nowhere": lambda path: path.symlink_to(path.with_name("nowhere")),
            "a device": lambda path: path.symlink_to("/dev/null"),
        }.items()
    },
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_noticed_and_named_and_the_artifact_can_be_made_again(store: ArtifactStore, damage: str) -> None:
    step = a_step()
    publish(store, step)
    do, reason = DAMAGE[damage]
    do(Path(store.root) / str(step.ref))
    for found in (store.inspect(step.ref), dict(store.inspect_all(verify=lambda record, file: True))[str(step.ref)]):
        assert found.status == "damaged"
        assert found.reason.startswith(reason) and "\n" not in found.reason
    assert [record.key for record in store.records()] == [step.key] * (found.record is not None)
    publish(store, step)
    assert store.inspect(step.ref).status == "complete"


def test_the_record_of_another_artifact_is_damage(store: ArtifactStore) -> None:
    publish(store, a_step())
    publish(store, a_step(seed=1))
    theirs = Path(store.root) / str(a_step(seed=1).ref) / RECORD
    (Path(store.root) / str(a_step().ref) / RECORD).write_bytes(theirs.read_bytes())
    found = store.inspect(a_step().ref)
    assert (found.status, found.reason) == ("damaged", f"record.json does not describe key {a_step().key[:12]}")


def test_without_verification_only_a_flipped_byte_goes_unnoticed(store: ArtifactStore) -> None:
    publish(store, a_step())
    flip(Path(store.root) / str(a_step().ref) / "rows.bin")
    assert store.inspect(a_step().ref, verify=False).status == "complete"
    os.truncate(Path(store.root) / str(a_step().ref) / "rows.bin", 10)
    assert store.inspect(a_step().ref, verify=False).status == "damaged"


def test_what_is_under_a_wrong_name_is_no_artifact_and_what_claims_nothing_is_passed_over(store: ArtifactStore) -> None:
    record = publish(store, a_step())
    folder = Path(store.root) / str(record.ref)
    shutil.copytree(folder, folder.with_name(f"{folder.name}.bak"))
    shutil.copytree(folder, folder.with_name(f"another-{record.key[:12]}"))
    shutil.copytree(folder, Path(store.root) / "corpus" / folder.name)
    (folder.parent / "notes").mkdir()
    (folder.parent / ".DS_Store").touch()
    (Path(store.root) / "README.md").touch()
    (Path(store.root) / "finetune").touch()
    found = dict(store.inspect_all())
    assert [name for name, seen in found.items() if seen.status == "complete"] == [str(record.ref)]
    copies = {name: seen.reason for name, seen in found.items() if seen.status == "damaged" and "/" in name}
    assert len(copies) == 3 and set(copies.values()) == {f"its record.json is that of {record.ref}"}
    assert found["finetune"].reason == "it is no folder" and len(found) == 5
    assert list(store.records()) == [record]


@pytest.mark.parametrize("file", [RECORD, "rows.bin"])
def test_what_may_not_be_read_may_be_whole_and_is_neither_used_nor_removed(
    tmp_path: Path, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, *_: object) -> int:
        if path.endswith(file):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return plain_size(path)

    runtime = Runtime(home=str(tmp_path), data_root="")
    store, step = ArtifactStore(runtime.artifacts), a_step()
    publish(store, step)
    with monkeypatch.context() as denied:
        denied.setattr("tlm.artifacts.disk.read_plain" if file == RECORD else "tlm.artifacts.disk.plain_size", refuse)
        found = store.inspect(step.ref)
        assert (found.status, found.reason) == ("unreadable", f"{file}: Permission denied")
        with pytest.raises(LookupError, match="is unreadable"):
            store.get(step.ref)
        with pytest.raises(
            UserError, match=rf"{step.ref} cannot be read: {file}: Permission denied\. Make it readable"
        ):
            execute(step, runtime)
    assert store.inspect(step.ref).status == "complete"


def test_unreadable_records_are_left_out_of_the_list(store: ArtifactStore) -> None:
    publish(store, a_step())
    publish(store, a_step(seed=1))
    (Path(store.root) / str(a_step().ref) / RECORD).write_text("{}")
    assert [record.key for record in store.records()] == [a_step(seed=1).key]


# --- records made before they had a digest ---


def test_a_record_without_a_digest_of_its_own_is_believed_and_gets_one(store: ArtifactStore) -> None:
    record = publish(store, a_step())
    folder = Path(store.root) / str(record.ref)
    unseal(folder)
    found = store.inspect(a_step().ref)
    assert found.status == "complete" and found.record is not None and not found.record.is_sealed
    assert store.seal(record.ref) and not store.seal(record.ref)
    assert store.inspect(a_step().ref).record == record
    assert {path.name for path in folder.iterdir()} == {RECORD, "rows.bin", "plots"}
    edit_record(folder, sealed=False, seconds=9.0)
    assert store.inspect(a_step().ref).reason.startswith("record.json was edited")


def test_what_is_damaged_is_not_sealed(store: ArtifactStore) -> None:
    record = publish(store, a_step())
    folder = Path(store.root) / str(record.ref)
    unseal(folder)
    flip(folder / "rows.bin")
    assert not store.seal(record.ref)
    assert SEAL not in json.loads((folder / RECORD).read_text())
