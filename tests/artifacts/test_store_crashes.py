"""Whatever happens to the process: no draft is an artifact, and a lock dies with its holder."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from artifacts.some_rows import a_step, publish
from filelock import FileLock, Timeout
from helpers import python_environment

from tlm.artifacts.building import CHECKPOINTS, DRAFTS, LOCKS
from tlm.artifacts.in_progress import FOLDER, begin, unfinished
from tlm.artifacts.record import RECORD
from tlm.artifacts.step import ArtifactRef, Step
from tlm.artifacts.store import Artifact, ArtifactStore
from tlm.data import sources
from tlm.machine.runtime import Runtime
from tlm.study.sources import FilesSource


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
