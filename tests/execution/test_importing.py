"""Of what comes home, nothing is believed that its own record does not prove, and nothing is taken that cannot be used."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pytest
from helpers import Mini, edit_record, only

from tlm.artifacts import catalogue
from tlm.artifacts.fingerprint import step_key
from tlm.artifacts.record import RECORD, Record
from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.execution import bundle as transfer
from tlm.execution.importing import import_records, survey
from tlm.stages import STAGES

TRAINING = ("pretrain", "finetune")


def forget(mini: Mini, *stages: str) -> None:
    for step in mini.plan.steps:
        if step.stage in stages:
            shutil.rmtree(mini.folder(step), ignore_errors=True)


def names(store: ArtifactStore) -> set[str]:
    return {str(record.ref) for record in store.records()}


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
    edit_record(own.folder(step), mlflow={"run_id": "of another machine"})
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


def forge(folder: Path, **changes: Any) -> None:
    """Another artifact in the place of this one: its record agrees with itself, key and all."""
    edit_record(folder, **changes)
    tree = json.loads((folder / RECORD).read_text())
    inputs = {name: ref["key"] for name, ref in tree["inputs"].items()}
    key = step_key(tree["stage"], tree["version"], tree["config"], inputs)
    edit_record(folder, key=key)
    folder.rename(folder.parent / f"{tree['slug']}-{key[:12]}")


def edit(folder: Path, before: str, after: str) -> None:
    """By hand, in any editor."""
    text = (folder / RECORD).read_text()
    (folder / RECORD).write_text(text.replace(f'"baseline": {before}', f'"baseline": {after}', 1))


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
    edit_record(folder, outputs=outputs)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped byte": (lambda f: flip_a_byte(f / "predictions.parquet"), "predictions.parquet differs from the digest"),
    "a cut file": (lambda f: os.truncate(f / "predictions.parquet", 9), "predictions.parquet has 9 bytes"),
    "a missing file": (lambda f: (f / "predictions.parquet").unlink(), "predictions.parquet is missing"),
    "no record": (lambda f: (f / RECORD).unlink(), "record.json is missing"),
    "half a record": (lambda f: os.truncate(f / RECORD, 99), "record.json is not a record"),
    "a record that is a folder": (
        lambda f: ((f / RECORD).unlink(), (f / RECORD).mkdir()),
        "record.json: Is a directory",
    ),
    "a record that is a pipe": (lambda f: ((f / RECORD).unlink(), os.mkfifo(f / RECORD)), "is a link or no plain file"),
    "an edited fact": (lambda f: edit_record(f, sealed=False, seconds=7), "record.json was edited"),
    "another config": (lambda f: edit_record(f, config={"baseline": "tfidf"}), "record.json does not describe key"),
    "a config without a key": (lambda f: edit(f, '"majority"', "NaN"), "record.json is not a record"),
    "a number out of range": (lambda f: edit(f, '"majority"', "1e999"), "inf has no canonical JSON"),
    "other inputs": (lambda f: edit_record(f, inputs={}), "record.json does not describe key"),
    "another key": (lambda f: edit_record(f, key="0" * 64), "record.json does not describe key 000000000000"),
    "another name": (lambda f: edit_record(f, slug="other"), "record.json is that of baseline/other-"),
    "a slug that climbs": (lambda f: edit_record(f, slug="../../x"), "slug: String should match"),
    "a time without zone": (lambda f: edit_record(f, created="2025-01-01T00:00:00"), "has no time zone"),
    "no time": (lambda f: edit_record(f, created="yesterday"), "record.json is not a record"),
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


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": "0.9"}, "made by version 0.9 of its stage; this code has 1"),
        ({"inputs": {"task": {"stage": "distil", "key": "0" * 64, "slug": "x"}}}, "names 'distil/x-000000000000'"),
        (
            {"inputs": {"task": {"stage": "task", "key": "0" * 64, "slug": "x"}}},
            "its input task/x-000000000000 is neither",
        ),
        ({"outputs": {}}, "it lacks predictions.parquet"),
    ],
)
def test_what_this_code_could_not_have_made_is_refused(
    own: Mini, store: ArtifactStore, changes: dict[str, Any], says: str
) -> None:
    forge(own.folder(only(own.plan, "baseline", baseline="majority")), **changes)
    name, reason = next(iter(import_records(Path(own.runtime.home), store).refused.items()))
    assert name.startswith("baseline/topics-majority-") and says in reason


@pytest.mark.parametrize("fact", [None, "x", 2**70, [[[]]]])
def test_facts_that_nobody_could_read_are_refused(own: Mini, store: ArtifactStore, fact: Any) -> None:
    telling = {f"{step.stage}/{own.folder(step).name}": step for step in own.plan.steps if STAGES[step.stage].told}
    for step in telling.values():
        edit_record(own.folder(step), facts=dict.fromkeys(STAGES[step.stage].told, fact) if fact else {})
    refused = import_records(Path(own.runtime.home), store).refused
    assert {step.stage for step in telling.values()} >= {"source", "tokenizer", "tokens", "task", "corpus", "inject"}
    assert telling.keys() <= refused.keys()
    assert any(reason.startswith("its facts are not those of its stage (") for reason in refused.values())


def test_a_claim_of_an_unknown_stage_is_refused_and_other_folders_are_let_be(own: Mini, store: ArtifactStore) -> None:
    root = Path(own.store.root)
    (root / "distil").mkdir()
    shutil.copytree(own.folder(own.plan.steps[0]), root / "distil" / "x")
    forge(root / "distil" / "x", stage="distil")
    (root / "logs" / "yesterday").mkdir(parents=True)
    (root / "task" / "notes.txt").write_text("mine")
    (root / "README").write_text("mine")
    assert list(import_records(Path(own.runtime.home), store).refused.values()) == ["unknown stage 'distil'"]


# --- trying ---


def forged(mini: Mini, folder: Path, stage: str, **changes: Any) -> str:
    """Another artifact like one of the study's, alone in a folder, as another machine could have made it; its name."""
    step = next(step for step in mini.plan.steps if step.stage == stage)
    shutil.copytree(mini.folder(step), copied := folder / stage / "copied")
    forge(copied, **{"config": {**step.config, "of": "another machine"}, "slug": "forged", **changes})
    [made] = (folder / stage).iterdir()
    return f"{stage}/{made.name}"


ABSURD: dict[str, tuple[str, dict[str, Any], str]] = {
    "a label beyond any integer": ("finetune", {"labels": {"ws": 2**70}}, "1180591620717411303424"),
    "a label that is no number": ("pretrain", {"labels": {"pretrain_seed": "two"}}, "two"),
    "a time that DuckDB cannot read": ("source", {"created": "2025-W01-1T00:00:00+00:00"}, "2025-W01-1"),
    "an accuracy above 1": ("baseline", {"facts": {"test_accuracy": 5, "test_items": 20}}, "accuracy_is_a_share"),
    "no accuracy": ("finetune", {"facts": {}}, "accuracy_is_a_share"),
    "facts of other types": ("inject", {"facts": {"mean_length": 1, "removed": {"a": []}}}, "INT64"),
}


@pytest.mark.parametrize("absurdity", ABSURD)
def test_what_the_catalogue_could_not_show_is_not_taken(
    mini: Mini, store: ArtifactStore, tmp_path: Path, absurdity: str
) -> None:
    stage, changes, says = ABSURD[absurdity]
    name = forged(mini, tmp_path / "sent", stage, **changes)
    trial = partial(catalogue.unfit, store, stages=STAGES)
    found = survey(tmp_path / "sent", store, closed=False, trial=trial)
    assert found.new == () and list(found.refused) == [name]
    assert found.refused[name].startswith("it cannot be used: ") and says in found.refused[name]


def test_what_contradicts_the_stores_own_is_refused_and_what_does_not_is_taken(
    mini: Mini, own: Mini, tmp_path: Path
) -> None:
    """A foreign overlap that finds the tokens again which an injection of the store's own has removed."""
    step = next(step for step in mini.plan.steps if step.stage == "overlap" and step.inputs["corpus"].stage == "inject")
    shutil.copytree(mini.folder(step), copied := tmp_path / "sent" / "overlap" / "copied")
    table = pd.read_parquet(copied / "token_counts.parquet").assign(corpus_count=1)
    table.to_parquet(copied / "token_counts.parquet", index=False)
    content = (copied / "token_counts.parquet").read_bytes()
    outputs = json.loads((copied / RECORD).read_text())["outputs"]
    outputs["token_counts.parquet"] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    forge(copied, config={"of": "another machine"}, outputs=outputs)
    sound = forged(mini, tmp_path / "sent", "corpus")
    found = survey(tmp_path / "sent", own.store, trial=partial(catalogue.unfit, own.store, stages=STAGES))
    [(name, reason)] = found.refused.items()
    assert name.startswith("overlap/") and "it cannot be used: " in reason
    assert [str(record.ref) for record in found.new] == [sound]


def test_a_store_that_leads_out_of_the_folder_is_refused(own: Mini, store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "given" / "data").mkdir(parents=True)
    (tmp_path / "given" / "data" / "artifacts").symlink_to(own.store.root)
    with pytest.raises(UserError, match="leads outside"):
        import_records(tmp_path / "given", store)
