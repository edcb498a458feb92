"""Bundles go out whole; of what comes home, nothing is believed that its own record does not prove."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pytest
from helpers import Mini, only

from tlm.artifacts.step import Step
from tlm.artifacts.store import RECORD, ArtifactStore, Record
from tlm.errors import UserError
from tlm.execution import bundle as transfer
from tlm.execution.bundle import export_bundle, import_records, read_bundle, steps_to_export, survey
from tlm.sequential import prepare
from tlm.stages import STAGES

TRAINING = ("pretrain", "finetune")


def forget(mini: Mini, *stages: str) -> None:
    for step in mini.plan.steps:
        if step.stage in stages:
            shutil.rmtree(mini.folder(step), ignore_errors=True)


def names(store: ArtifactStore) -> set[str]:
    return {str(record.ref) for record in store.records()}


# --- going out ---


def test_a_bundle_holds_the_unfinished_training_and_only_what_it_starts_from(own: Mini, tmp_path: Path) -> None:
    forget(own, "pretrain", "finetune", "committee", "report")
    done = export_bundle(own.plan, own.store, tmp_path / "to" / "bundle")
    bundle = read_bundle(done.folder)
    assert bundle.study == "mini" and list(bundle.steps) == list(done.steps)
    assert [s.key for s in bundle.steps] == [
        s.key for s in own.plan.steps if s.stage in ("pretrain", "finetune", "committee")
    ]
    carried = ArtifactStore(f"{done.folder}/data/artifacts")
    assert names(carried) == {
        str(ref)
        for s in own.plan.steps
        if s.stage in TRAINING
        for ref in s.inputs.values()
        if ref.stage not in TRAINING
    }
    assert all(carried.inspect(record.ref).status == "complete" for record in carried.records())
    files = [path for path in done.folder.rglob("*") if path.is_file()]
    assert (done.inputs, done.bytes) == (len(names(carried)), sum(path.stat().st_size for path in files))
    assert not [path for path in files if own.runtime.home in path.read_text(errors="replace")]


def test_what_is_made_is_not_run_again_but_carried_where_it_is_needed(own: Mini, tmp_path: Path) -> None:
    missing = only(own.plan, "finetune", ws=60, arch="one")
    shutil.rmtree(own.folder(missing))
    done = export_bundle(own.plan, own.store, tmp_path / "bundle")
    assert [step.key for step in done.steps] == [missing.key]
    assert names(ArtifactStore(f"{done.folder}/data/artifacts")) == {str(ref) for ref in missing.inputs.values()}


def test_a_step_that_does_not_train_goes_along_only_if_its_inputs_do(own: Mini) -> None:
    forget(own, "overlap", "committee")
    assert steps_to_export(own.plan, own.store) == []
    shutil.rmtree(own.folder(only(own.plan, "pretrain", ws=60, arch="one")))
    shutil.rmtree(own.folder(only(own.plan, "finetune", ws=60, arch="one")))
    assert [(s.stage, s.labels["ws"]) for s in steps_to_export(own.plan, own.store)] == [
        ("overlap", 60),
        ("pretrain", 60),
        ("finetune", 60),
    ]


def test_only_the_stages_that_are_asked_for_are_exported(own: Mini, tmp_path: Path) -> None:
    forget(own, *TRAINING)
    done = export_bundle(own.plan, own.store, tmp_path / "bundle", stages=("pretrain",))
    assert {step.stage for step in done.steps} == {"pretrain"}
    with pytest.raises(UserError, match=r"5 inputs are not made yet: pretrain/"):
        export_bundle(own.plan, own.store, tmp_path / "other", stages=("finetune",))


def test_inputs_that_are_missing_or_damaged_are_named_until_prepare_has_made_them(own: Mini, tmp_path: Path) -> None:
    forget(own, "tokens", *TRAINING)
    corpus, other = only(own.plan, "corpus", ws=60), only(own.plan, "corpus", ws=120)
    shutil.rmtree(own.folder(corpus))
    (own.folder(other) / "tokens.ids.npy").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"inputs are not made yet: .*`tlm run mini`") as raised:
        export_bundle(own.plan, own.store, tmp_path / "bundle")
    assert str(corpus.ref) in str(raised.value) and str(other.ref) in str(raised.value)
    assert list(tmp_path.glob("*bundle*")) == []
    assert {outcome.record.stage for outcome in prepare(own.plan, own.runtime)} == {"tokens", "corpus"}
    assert export_bundle(own.plan, own.store, tmp_path / "bundle").steps


def test_there_must_be_something_to_run_and_room_for_it(own: Mini, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Nothing of the study 'mini' is left to run in pretrain, finetune"):
        export_bundle(own.plan, own.store, tmp_path / "bundle")
    forget(own, "finetune")
    (tmp_path / "bundle").mkdir()
    with pytest.raises(UserError, match="bundle is there already"):
        export_bundle(own.plan, own.store, tmp_path / "bundle")


def test_an_export_that_fails_half_way_leaves_nothing(
    own: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(own, "finetune")
    copied: list[str] = []

    def full(source: Path, target: Path) -> None:
        copied.append(str(target))
        if len(copied) == 3:
            raise OSError("No space left on device")

    monkeypatch.setattr(transfer.shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        export_bundle(own.plan, own.store, tmp_path / "out" / "bundle")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_bundle_of_other_code_is_refused(own: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget(own, "finetune")
    folder = export_bundle(own.plan, own.store, tmp_path / "bundle").folder
    monkeypatch.setattr(STAGES["finetune"], "version", "newer")
    with pytest.raises(UserError, match="written by another version of this code"):
        read_bundle(folder)
    monkeypatch.delitem(STAGES._known, "finetune")
    with pytest.raises(UserError, match="written by another version of this code"):
        read_bundle(folder)
    (folder / "steps.json").write_text("{}")
    with pytest.raises(UserError, match=r"steps\.json does not hold steps"):
        read_bundle(folder)


# --- coming home ---


def test_everything_comes_home_whole_and_once(own: Mini, store: ArtifactStore) -> None:
    done = import_records(Path(own.runtime.home), store)
    assert {ref.key for ref in done.imported} == {step.key for step in own.plan.steps}
    assert (done.present, done.refused) == ((), {})
    for step in own.plan.steps:
        assert store.get(step.ref, verify=True).record == own.first[step.key].record
    again = import_records(Path(own.store.root), store)
    assert (again.imported, len(again.present), again.refused) == ((), len(own.plan.steps), {})


def test_artifacts_arrive_after_their_inputs(own: Mini, store: ArtifactStore) -> None:
    seen: set[str] = set()
    for record in survey(Path(own.runtime.home), store).new:
        assert {ref.key for ref in record.inputs.values()} <= seen
        seen.add(record.key)


def test_a_record_keeps_what_tracking_says_and_not_what_it_came_with(own: Mini, store: ArtifactStore) -> None:
    step = own.plan.steps[0]
    edit(own.folder(step), mlflow={"run_id": "of another machine"})
    log: list[str] = []

    @contextmanager
    def track(tracked: Step, record: Record) -> Iterator[dict[str, str]]:
        assert tracked.key == record.key and store.inspect(tracked.ref).status == "missing"
        yield {"run_id": f"run of {tracked.stage}"}
        assert store.inspect(tracked.ref).status == "complete"
        log.append(tracked.key)

    import_records(Path(own.runtime.home), store, track=track)
    assert set(log) == {each.key for each in own.plan.steps}
    assert store.get(step.ref).record.mlflow == {"run_id": "run of source"}
    store.delete(step.ref)
    import_records(Path(own.runtime.home), store)
    assert store.get(step.ref).record.mlflow is None


def test_a_damaged_artifact_of_the_store_is_replaced(own: Mini, store: ArtifactStore) -> None:
    import_records(Path(own.runtime.home), store)
    step = only(own.plan, "tokenizer")
    (Path(store.root) / str(step.ref) / "vocab.txt").write_text("nonsense")
    assert import_records(Path(own.runtime.home), store).imported == (step.ref,)
    assert store.inspect(step.ref).status == "complete"


def test_a_copy_that_fails_half_way_leaves_nothing_of_its_artifact(
    own: Mini, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = survey(Path(own.runtime.home), store).new[0]

    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(transfer.shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        import_records(Path(own.runtime.home), store)
    assert store.inspect(first.ref).status == "missing" and store.abandoned() == []


def test_a_store_that_is_no_disk_takes_imports_too(own: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    remote = ArtifactStore(f"memory://{uuid.uuid4().hex}")
    import_records(Path(own.runtime.home), remote)
    assert names(remote) == names(own.store)
    assert all(remote.inspect(step.ref).status == "complete" for step in own.plan.steps)
    fsspec.filesystem("memory").store.clear()


def test_a_folder_without_artifacts_is_a_users_error(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        import_records(tmp_path / "nothing", store)
    (tmp_path / "some" / "log").mkdir(parents=True)
    with pytest.raises(UserError, match="There are no artifacts in"):
        import_records(tmp_path, store)


# --- refusing ---


def edit(folder: Path, **changes: Any) -> None:
    path = folder / RECORD
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


def link(file: Path) -> None:
    shutil.move(file, aside := file.parents[4] / "outside")
    file.symlink_to(aside)


def name_output(folder: Path, name: str) -> None:
    outputs = json.loads((folder / RECORD).read_text())["outputs"]
    outputs[name] = outputs.pop("predictions.parquet")
    edit(folder, outputs=outputs)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped byte": (lambda f: flip_a_byte(f / "predictions.parquet"), "predictions.parquet differs from the digest"),
    "a cut file": (lambda f: os.truncate(f / "predictions.parquet", 9), "predictions.parquet has 9 bytes"),
    "a missing file": (lambda f: (f / "predictions.parquet").unlink(), "predictions.parquet is missing"),
    "no record": (lambda f: (f / RECORD).unlink(), "record.json is missing"),
    "half a record": (lambda f: os.truncate(f / RECORD, 99), "record.json is not a record"),
    "another config": (lambda f: edit(f, config={"baseline": "tfidf"}), "record.json does not describe key"),
    "a config without a key": (lambda f: edit(f, config={"baseline": float("nan")}), "no canonical JSON"),
    "other inputs": (lambda f: edit(f, inputs={}), "record.json does not describe key"),
    "another key": (lambda f: edit(f, key="0" * 64), "record.json is that of baseline/topics-majority-000000000000"),
    "another name": (lambda f: edit(f, slug="other"), "record.json is that of baseline/other-"),
    "another version": (lambda f: edit(f, version="0.9"), "made by version 0.9 of its stage; this code has 1"),
    "an unknown stage": (lambda f: edit(f, stage="distil"), "unknown stage 'distil'"),
    "a slug that climbs": (lambda f: edit(f, slug="../../x"), "slug: String should match"),
    "a time without zone": (lambda f: edit(f, created="2025-01-01T00:00:00"), "has no time zone"),
    "no time": (lambda f: edit(f, created="yesterday"), "record.json is not a record"),
    "a linked file": (lambda f: link(f / "predictions.parquet"), "predictions.parquet is a link"),
    "a linked folder": (lambda f: link(f), "is a link"),
    "an output that climbs": (lambda f: name_output(f, "../../../../x"), "leads outside"),
    "an absolute output": (lambda f: name_output(f, "/tmp/x"), "leads outside"),
    "a doubly absolute output": (lambda f: name_output(f, "//tmp/x"), "leads outside"),
    "an output over the record": (lambda f: name_output(f, RECORD), "leads outside or over the record"),
    "an output that is a folder": (lambda f: name_output(f, "."), "leads outside"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_not_what_its_record_says_is_refused_by_name_and_alone(
    own: Mini, store: ArtifactStore, fault: str
) -> None:
    harm, reason = FAULTS[fault]
    shutil.rmtree(own.folder(own.plan.report))
    step = only(own.plan, "baseline", baseline="majority")
    harm(own.folder(step))
    done = import_records(Path(own.runtime.home), store)
    assert list(done.refused) == [str(step.ref)]
    assert reason in done.refused[str(step.ref)]
    assert {ref.key for ref in done.imported} == {s.key for s in own.plan.steps[:-1]} - {step.key}
    assert {record.key for record in store.records()} == {ref.key for ref in done.imported}


@pytest.mark.parametrize(
    ("field", "value"), [("slug", "../../../x"), ("slug", "/tmp/x"), ("stage", "../x"), ("stage", "/tmp")]
)
def test_a_bundle_whose_steps_lead_out_of_its_folder_is_refused(tmp_path: Path, field: str, value: str) -> None:
    step = {"stage": "pretrain", "version": "1", "config": {}, "slug": "x", field: value}
    bundle = {"study": "x", "keys": ["0" * 64], "steps": [step]}
    (tmp_path / "steps.json").write_text(json.dumps(bundle), encoding="utf-8")
    with pytest.raises(UserError, match=rf"does not hold steps \(steps\.0\.{field}: String should match"):
        read_bundle(tmp_path)


def test_what_was_made_from_something_refused_is_refused_with_it(own: Mini, store: ArtifactStore) -> None:
    pretrain = only(own.plan, "pretrain", ws=60, arch="conv")
    finetune = only(own.plan, "finetune", ws=60, arch="conv")
    flip_a_byte(own.folder(pretrain) / "model.safetensors")
    done = import_records(Path(own.runtime.home), store)
    assert done.refused.keys() == {str(step.ref) for step in own.plan.below([pretrain.key])}
    assert (
        done.refused[str(finetune.ref)] == f"its input {pretrain.ref} is neither in the store nor, whole, in the folder"
    )


def test_an_input_may_be_in_the_store_or_be_let_be(own: Mini, mini: Mini, store: ArtifactStore) -> None:
    step = only(own.plan, "finetune", ws=60, arch="conv")
    for other in own.plan.steps:
        if other.key != step.key:
            shutil.rmtree(own.folder(other))
    folder = Path(own.runtime.home)
    assert list(import_records(folder, store).refused) == [str(step.ref)]
    assert import_records(folder, store, closed=False).imported == (step.ref,)
    store.delete(step.ref)
    import_records(Path(mini.runtime.home), store)
    store.delete(step.ref)
    assert import_records(folder, store).imported == (step.ref,)


def test_a_claim_of_an_unknown_stage_is_refused_and_other_folders_are_let_be(own: Mini, store: ArtifactStore) -> None:
    step = own.plan.steps[0]
    strange = Path(own.store.root) / "distil" / f"x-{step.key[:12]}"
    shutil.copytree(own.folder(step), strange)
    edit(strange, stage="distil")
    (Path(own.store.root) / "logs" / "yesterday").mkdir(parents=True)
    assert import_records(Path(own.runtime.home), store).refused == {f"distil/{strange.name}": "unknown stage 'distil'"}


def test_a_store_that_leads_out_of_the_folder_is_refused(own: Mini, store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "given" / "data").mkdir(parents=True)
    (tmp_path / "given" / "data" / "artifacts").symlink_to(own.store.root)
    with pytest.raises(UserError, match="leads outside"):
        import_records(tmp_path / "given", store)
