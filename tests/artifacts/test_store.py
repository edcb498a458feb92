"""Artifacts: whole or not there, wherever the store is and whatever happens to the process."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest
from helpers import edit_record, python_environment, unseal
from pydantic import ValidationError

from tlm.artifacts.building import CHECKPOINTS, DRAFTS, LOCKS
from tlm.artifacts.housekeeping import select
from tlm.artifacts.in_progress import FOLDER, begin, unfinished
from tlm.artifacts.listing import outputs_of
from tlm.artifacts.record import RECORD, SEAL, Record
from tlm.artifacts.step import ArtifactRef, Step
from tlm.artifacts.store import Artifact, ArtifactStore
from tlm.errors import UserError
from tlm.execution.execute import execute
from tlm.machine.files import plain_size, remove
from tlm.machine.runtime import Runtime

FILES = {"rows.bin": b"0123456789" * 100, "plots/curve.txt": b"a curve"}


def a_step(seed: int = 0, slug: str = "some-rows") -> Step:
    return Step(
        stage="source",
        version="1",
        config={"seed": seed, "share": 0.25},
        slug=slug,
        labels={"ws": 5, "treatment": None},
    )


def publish(store: ArtifactStore, step: Step) -> Record:
    with store.lock(step.ref), store.draft(step.ref) as draft:
        for name, content in FILES.items():
            (draft / name).parent.mkdir(exist_ok=True)
            (draft / name).write_bytes(content)
        return store.publish(step, draft, facts={"rows": 3}, provenance={"git_commit": "c0ffee"}, seconds=1.23456)


@pytest.fixture(params=["local", "memory"])
def any_store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ArtifactStore]:
    """A local store, and one on a file system that is no disk."""
    if request.param == "local":
        yield ArtifactStore(str(tmp_path / "artifacts"))
        return
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # drafts, locks and fetched files of a remote store
    url = f"memory://{uuid.uuid4().hex}"
    yield ArtifactStore(url)
    fsspec.filesystem("memory").store.clear()


# --- publishing and reading ---


def test_a_published_artifact_is_complete_and_readable(any_store: ArtifactStore) -> None:
    step = a_step()
    record = publish(any_store, step)
    found = any_store.inspect(step.ref)
    assert (found.status, found.reason, found.record) == ("complete", "", record)
    artifact = any_store.get(step.ref, verify=True)
    for name, content in FILES.items():
        assert artifact.path(name).read_bytes() == content
    assert list(any_store.records()) == [record]


def test_the_record_says_what_was_made_of_what(store: ArtifactStore) -> None:
    step = a_step()
    record = publish(store, step)
    assert set(record.outputs) == set(FILES)
    assert record.outputs["rows.bin"].bytes == 1_000
    assert (record.key, record.ref, record.config, record.labels) == (step.key, step.ref, step.config, step.labels)
    assert (record.facts, record.seconds) == ({"rows": 3}, 1.235)


def test_what_was_never_published_is_missing(any_store: ArtifactStore) -> None:
    assert any_store.inspect(a_step().ref).status == "missing"
    assert list(any_store.records()) == []
    assert any_store.delete(a_step().ref) is False
    with pytest.raises(LookupError, match="source/some-rows-.* is missing"):
        any_store.get(a_step().ref)


def test_an_output_that_does_not_exist_is_named_with_those_that_do(store: ArtifactStore) -> None:
    publish(store, a_step())
    with pytest.raises(KeyError, match="rows.bin"):
        store.get(a_step().ref).path("other.bin")


def test_publishing_again_replaces_the_artifact(store: ArtifactStore) -> None:
    publish(store, a_step())
    publish(store, a_step(slug="renamed"))
    assert [record.slug for record in store.records()] == ["renamed"]
    assert store.inspect(a_step().ref).status == "complete"


def test_a_deleted_artifact_is_missing(any_store: ArtifactStore) -> None:
    publish(any_store, a_step())
    publish(any_store, a_step(seed=1))
    assert any_store.delete(a_step().ref) is True
    assert any_store.inspect(a_step().ref).status == "missing"
    assert any_store.inspect(a_step(seed=1).ref).status == "complete"


def test_an_artifact_is_found_by_key_under_another_slug(any_store: ArtifactStore) -> None:
    publish(any_store, a_step(slug="before"))
    found = any_store.inspect(a_step(slug="after").ref)
    assert found.status == "complete" and found.record is not None and found.record.slug == "before"
    assert any_store.get(a_step(slug="after").ref).path("rows.bin").read_bytes() == FILES["rows.bin"]


def test_of_many_each_is_found_as_it_is_alone_and_a_stage_is_listed_once(
    any_store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [a_step(seed) for seed in range(6)]
    for step in steps[:4]:
        publish(any_store, step)
    damaged = any_store.get(steps[1].ref).record
    any_store.shelf.remove_file(f"{outputs_of(f'{any_store.root}/{damaged.ref}', damaged)}/rows.bin")
    refs = [
        *(step.ref for step in steps),
        a_step(2, "another-name").ref,
        ArtifactRef(stage="task", key="0" * 64, slug="x"),
    ]
    alone = {ref.key: any_store.inspect(ref) for ref in refs}
    listed: list[str] = []
    folders = any_store._folders

    def noted(shelf: Any, stage: str) -> list[str]:
        listed.append(stage)
        return folders(shelf, stage)

    monkeypatch.setattr(any_store, "_folders", noted)
    assert any_store.inspect_each(refs) == alone
    assert [seen.status for seen in alone.values()] == ["complete", "damaged", *["complete"] * 2, *["missing"] * 3]
    assert sorted(listed) == ["source", "task"]


def test_moving_the_store_invalidates_nothing(tmp_path: Path) -> None:
    record = publish(ArtifactStore(str(tmp_path / "here/artifacts")), a_step())
    (tmp_path / "here").rename(tmp_path / "there")
    moved = ArtifactStore(str(tmp_path / "there/artifacts"))
    assert moved.inspect(a_step().ref).record == record
    assert str(tmp_path) not in (tmp_path / "there/artifacts" / str(record.ref) / RECORD).read_text()


def test_a_path_may_hold_characters_that_mean_something_in_a_pattern(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "a[b]*{c}"))
    publish(store, a_step(slug="before"))
    assert store.inspect(a_step(slug="after").ref).status == "complete"
    assert [record.slug for record in store.records()] == ["before"]


# --- damage ---


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[3] ^= 1
    file.write_bytes(content)


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


# --- drafts and crashes ---


@pytest.mark.parametrize("place", [LOCKS, DRAFTS, CHECKPOINTS, FOLDER])
@pytest.mark.parametrize("how", [Path.touch, os.mkfifo, lambda path: path.symlink_to(path)])
def test_what_stands_in_the_place_of_a_folder_of_the_stores_own_gives_way(
    store: ArtifactStore, place: str, how: Callable[[Path], object]
) -> None:
    Path(store.root).mkdir(parents=True)
    how(Path(store.root) / place)
    begin(store, "study", [a_step()])
    assert store.idle_checkpoints() == [] and store.abandoned() == []
    assert [study.name for study in unfinished(store)] == ["study"]
    publish(store, a_step())
    assert store.inspect(a_step().ref).status == "complete"


def test_a_lock_that_is_a_folder_gives_way(store: ArtifactStore) -> None:
    (Path(store.root) / LOCKS / f"{a_step().key}.lock" / "in it").mkdir(parents=True)
    publish(store, a_step())
    assert store.inspect(a_step().ref).status == "complete"


def test_a_draft_is_gone_after_an_exception_and_was_never_an_artifact(any_store: ArtifactStore) -> None:
    step = a_step()
    with pytest.raises(ZeroDivisionError), any_store.draft(step.ref) as draft:
        (draft / "rows.bin").write_bytes(b"half")
        assert any_store.inspect(step.ref).status == "missing"
        raise ZeroDivisionError
    assert not draft.exists()
    assert any_store.inspect(step.ref).status == "missing"


def test_a_crash_between_record_and_rename_leaves_nothing_readable(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = a_step()
    building = store.draft(step.ref)  # never left: a killed process leaves its draft as it is
    draft = building.__enter__()
    (draft / "rows.bin").write_bytes(b"whole")
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr("os.rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        store.publish(step, draft, facts={}, provenance={}, seconds=0)
    assert (draft / RECORD).exists()
    assert store.inspect(step.ref).status == "missing"
    assert list(store.records()) == []
    publish(store, step)
    assert not draft.exists(), "the next builder of the same step clears it away"


def test_what_takes_the_place_of_an_artifact_has_its_record_before_that_goes(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = publish(store, a_step())
    with monkeypatch.context() as full, store.lock(record.ref), store.draft(record.ref) as draft:
        full.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
        with pytest.raises(OSError, match="No space left"):
            store.adopt(record, draft)
    assert store.inspect(record.ref).status == "complete"


def test_a_crash_in_the_middle_of_deleting_leaves_nothing_readable(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store, a_step())
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(shutil, "rmtree", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        store.delete(a_step().ref)
    assert store.inspect(a_step().ref).status != "complete"
    assert list(store.records()) == []
    publish(store, a_step())
    assert store.inspect(a_step().ref).status == "complete"


def test_drafts_are_abandoned_once_their_builder_is_gone(store: ArtifactStore) -> None:
    step = a_step()
    with store.lock(step.ref), store.draft(step.ref):
        assert store.abandoned() == []
    left = Path(store.root) / DRAFTS / f"{step.key[:12]}-left"
    left.mkdir(parents=True)
    assert store.abandoned() == [left]


HOLDER = """
import sys
from tlm.artifacts.step import ArtifactRef
from tlm.artifacts.store import ArtifactStore
store = ArtifactStore(sys.argv[1])
ref = ArtifactRef.model_validate_json(sys.argv[2])
with store.lock(ref), store.draft(ref) as draft:
    (draft / "half").write_text("half")
    print(draft, flush=True)
    sys.stdin.read()
"""


def test_a_lock_excludes_another_process_and_dies_with_its_holder(store: ArtifactStore) -> None:
    ref: ArtifactRef = a_step().ref
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, store.root, ref.model_dump_json()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=python_environment(),
    )
    assert holder.stdout is not None
    draft = Path(holder.stdout.readline().strip())
    try:
        assert store.abandoned() == [], "its holder lives"
        lock = store.lock(ref)
        from filelock import FileLock, Timeout

        with pytest.raises(Timeout):
            FileLock(Path(store.root) / ".locks" / f"{ref.key}.lock").acquire(timeout=0)
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    assert draft.exists() and store.abandoned() == [draft]
    with lock, store.draft(ref):
        assert not draft.exists()
    assert store.inspect(ref).status == "missing"


BUILDER = """
import sys
from tlm.execution.execute import execute
from tlm.machine.runtime import Runtime
from tlm.artifacts.step import Step
step = Step.model_validate_json(sys.argv[2])
sys.stdin.readline()
print(execute(step, Runtime.model_validate_json(sys.argv[1])).status)
"""


def test_two_processes_that_execute_the_same_step_at_once_make_one_artifact(tmp_path: Path) -> None:
    from tlm.data import sources
    from tlm.machine.runtime import Runtime
    from tlm.study.sources import FilesSource

    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    source = FilesSource(format="text", path="a.txt")
    config = sources.identity(source, str(tmp_path))
    step = Step(
        stage="source", version="1", config=config, slug="files", access={"source": source.model_dump(mode="json")}
    )
    runtime = Runtime(home=str(tmp_path / "home"), data_root=str(tmp_path))
    builders = [
        subprocess.Popen(
            [sys.executable, "-c", BUILDER, runtime.model_dump_json(), step.model_dump_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=python_environment(),
        )
        for _ in range(2)
    ]
    said = [builder.communicate("go\n")[0].strip() for builder in builders]
    assert sorted(said) == ["cached", "executed"]
    store = ArtifactStore(runtime.artifacts)
    assert [record.key for record in store.records()] == [step.key]
    assert isinstance(store.get(step.ref, verify=True), Artifact)
    assert list((Path(store.root) / DRAFTS).iterdir()) == []
    assert json.loads((Path(store.root) / str(step.ref) / RECORD).read_text())["facts"]["rows"] == 2


# --- names that come from elsewhere ---

HOSTILE = ("", "..", "../x", "a/b", "/tmp/x", "a\\b", "a b", "A", "a\n", "a\0", "ä", "x" * 300)
GOOD_REF = {"stage": "source", "slug": "rows", "key": "0" * 64}


@pytest.mark.parametrize(
    ("field", "value"),
    [  # a slug stands before a dash and a key: "" and ".." make a plain folder there
        *(("slug", value) for value in HOSTILE if value not in ("", "..")),
        *((field, value) for field in ("stage", "key") for value in HOSTILE),
    ],
)
def test_a_name_that_could_lead_elsewhere_is_in_no_reference_step_or_record(
    store: ArtifactStore, field: str, value: str
) -> None:
    record = publish(store, a_step()).model_dump()
    step = a_step().model_dump()
    bad = {**GOOD_REF, field: value}
    for model, fields in (
        (ArtifactRef, bad),
        (Record, {**record, field: value}),
        (Record, {**record, "inputs": {"rows": bad}}),
        (Step, {**step, "inputs": {"rows": bad}}),
        *(() if field == "key" else ((Step, {**step, field: value}),)),
    ):
        with pytest.raises(ValidationError):
            model.model_validate(fields)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "/tmp/x", "//x", "a/../../x", "a//b", "./a", "a/", RECORD, "a\0"]
)
def test_an_output_that_leads_outside_is_in_no_record(store: ArtifactStore, name: str) -> None:
    record = publish(store, a_step()).model_dump()
    record["outputs"][name] = record["outputs"].pop("rows.bin")
    with pytest.raises(ValidationError, match="leads outside"):
        Record.model_validate(record)


@pytest.mark.parametrize("field", ["stage", "slug", "key"])
def test_invalidating_a_hostile_record_removes_nothing_outside_the_store(store: ArtifactStore, field: str) -> None:
    record = publish(store, a_step())
    outside = Path(store.root).parent / f"victim-{record.key[:12]}"
    outside.mkdir()
    (outside / "kept.txt").write_text("kept")
    place = Path(store.root) / str(record.ref) / RECORD
    place.write_text(json.dumps({**json.loads(place.read_text()), field: "../../victim"}), encoding="utf-8")
    with pytest.raises(UserError, match="No artifact matches"):
        select(store, record.key)
    assert store.inspect(record.ref).reason.startswith(f"{RECORD} is not a record ({field}: ")
    store.delete(record.ref)
    assert not place.exists() and (outside / "kept.txt").read_text() == "kept"


def test_deleting_a_linked_artifact_removes_the_link_alone(store: ArtifactStore, tmp_path: Path) -> None:
    record = publish(store, a_step())
    place = Path(store.root) / str(record.ref)
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    assert store.delete(record.ref) and not place.is_symlink()
    assert (tmp_path / "elsewhere" / RECORD).exists()
