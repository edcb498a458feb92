"""Bundles go out whole, with what training starts from and no more."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers import Mini, only

from tlm.artifacts.store import Artifact, ArtifactStore
from tlm.errors import UserError
from tlm.execution import bundle as transfer
from tlm.execution.bundle import copy_outputs, export_bundle, read_bundle, steps_to_export
from tlm.sequential import prepare
from tlm.stages import STAGES

TRAINING = ("pretrain", "finetune")


def forget(mini: Mini, *stages: str) -> None:
    for step in mini.plan.steps:
        if step.stage in stages:
            shutil.rmtree(mini.folder(step), ignore_errors=True)


def names(store: ArtifactStore) -> set[str]:
    return {str(record.ref) for record in store.records()}


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
    with pytest.raises(UserError, match="Nothing of the study 'mini' is left to run in pretrain, "):
        export_bundle(own.plan, own.store, tmp_path / "bundle")
    forget(own, "finetune")
    (tmp_path / "bundle").mkdir()
    with pytest.raises(UserError, match="bundle is there already"):
        export_bundle(own.plan, own.store, tmp_path / "bundle")


def test_an_artifact_without_files_goes_along(own: Mini, tmp_path: Path) -> None:
    """As the tokenizer of bytes is one: its record says all."""
    step = only(own.plan, "tokenizer")
    record = own.store.get(step.ref).record.model_copy(update={"outputs": {}})
    copy_outputs(Artifact(own.store, record), tmp_path / "bundle" / str(step.ref))
    assert (tmp_path / "bundle" / str(step.ref)).is_dir()


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


@pytest.mark.parametrize(
    ("field", "value"), [("slug", "../../../x"), ("slug", "/tmp/x"), ("stage", "../x"), ("stage", "/tmp")]
)
def test_a_bundle_whose_steps_lead_out_of_its_folder_is_refused(tmp_path: Path, field: str, value: str) -> None:
    step = {"stage": "pretrain", "version": "1", "config": {}, "slug": "x", field: value}
    bundle = {"study": "x", "keys": ["0" * 64], "steps": [step]}
    (tmp_path / "steps.json").write_text(json.dumps(bundle), encoding="utf-8")
    with pytest.raises(UserError, match=rf"does not hold steps \(steps\.0\.{field}: String should match"):
        read_bundle(tmp_path)
