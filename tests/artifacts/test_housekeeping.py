"""Removing artifacts: what a selector names and what was made from it; never what a report was made from."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from helpers import command_line, mini_study, record_all

from tlm.artifacts.building import CHECKPOINTS, DRAFTS
from tlm.artifacts.housekeeping import collect, find_garbage, recent, select
from tlm.artifacts.in_progress import begin, end, unfinished
from tlm.artifacts.probe import PROBE
from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.planning.plan import Plan, plan


@pytest.fixture
def filled(store: ArtifactStore, mini_plan: Plan) -> ArtifactStore:
    record_all(store, mini_plan)
    return store


def test_a_stage_selects_all_of_it_and_what_was_made_from_it(filled: ArtifactStore, mini_plan: Plan) -> None:
    own = {step.key for step in mini_plan.steps if step.stage == "pretrain"}
    assert {r.key for r in select(filled, "pretrain", downstream=False)} == own
    assert {r.key for r in select(filled, "pretrain")} == {step.key for step in mini_plan.below(own)}
    assert {r.stage for r in select(filled, "pretrain")} == {
        "pretrain",
        "finetune",
        "latency",
        "committee",
        "report",
    }


def test_a_slug_or_its_beginning_selects_within_a_stage(filled: ArtifactStore) -> None:
    assert {r.slug for r in select(filled, "pretrain/one", downstream=False)} == {
        "one-ws60-s0-p0",
        "one-ws120-s0-p0",
        "one-ws120-topics-random-unk-3-s0-p0",
    }
    assert len(select(filled, "pretrain/one-ws60-s0-p0", downstream=False)) == 1


def test_a_key_or_its_beginning_selects_one(filled: ArtifactStore, mini_plan: Plan) -> None:
    key = mini_plan.steps[0].key
    for selector in (key, key[:6], str(mini_plan.steps[0].ref)):
        assert [r.key for r in select(filled, selector, downstream=False)] == [key]


@pytest.mark.parametrize("selector", ["pre", "nothing", "abc", "pretrain/two", ""])
def test_a_selector_that_names_nothing_is_an_error(filled: ArtifactStore, selector: str) -> None:
    with pytest.raises(UserError, match="No artifact matches"):
        select(filled, selector)


def test_nothing_that_a_report_was_made_from_is_garbage(filled: ArtifactStore) -> None:
    assert find_garbage(filled).unreferenced == ()


def test_probes_that_were_left_are_garbage_after_an_hour(store: ArtifactStore) -> None:
    old, new = (Path(store.root) / f"{PROBE}{name}" for name in ("old", "new"))
    for path in (old, new):
        store.shelf.write(str(path), b"probe")
    os.utime(old, (time.time() - 7_200,) * 2)
    garbage = find_garbage(store)
    assert garbage.uploads == (str(old),)
    collect(store, garbage)
    assert not old.exists() and new.exists()


def test_what_no_report_was_made_from_is_collected_and_the_rest_stays(
    filled: ArtifactStore, mini_plan: Plan, mini_data: Path
) -> None:
    other = plan(mini_study(finetune__epochs=3), str(mini_data))
    loose = [step for step in other.steps if step.stage == "finetune"]
    record_all(filled, Plan(other.study, tuple(loose)))
    left = Path(filled.root) / DRAFTS / "abcdefabcdef-left"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"12345")
    garbage = find_garbage(filled)
    assert {ref.key for ref in garbage.unreferenced} == {step.key for step in loose}
    assert garbage.abandoned == (left,)
    assert garbage.bytes == len(loose) * 1 + 5
    collect(filled, garbage)
    assert {r.key for r in filled.records()} == {step.key for step in mini_plan.steps}
    assert not left.exists()
    assert find_garbage(filled).unreferenced == ()


def test_steps_of_studies_under_way_can_be_kept_with_all_they_need(store: ArtifactStore, mini_plan: Plan) -> None:
    record_all(store, Plan(mini_plan.study, mini_plan.steps[:-1]))
    assert len(find_garbage(store).unreferenced) == len(mini_plan.steps) - 1
    finetune = next(step for step in mini_plan.steps if step.stage == "finetune" and "pretrained" in step.inputs)
    kept = {r.key for r in store.records()} - {ref.key for ref in find_garbage(store, keep={finetune.key}).unreferenced}
    needed, queue = set(), [finetune.ref]
    by_key = {step.key: step for step in mini_plan.steps}
    while queue:
        key = queue.pop().key
        needed.add(key)
        queue += by_key[key].inputs.values()
    assert kept == needed


def test_what_was_made_recently_counts_as_under_way(filled: ArtifactStore) -> None:
    everything = {record.key for record in filled.records()}
    assert recent(filled, hours=1) == everything
    assert recent(filled, hours=0) == set()


# --- checkpoints ---


def checkpoint_of(store: ArtifactStore, step: Step, *, hours_old: float = 0) -> Path:
    folder = store.checkpoints(step.ref)
    folder.mkdir(parents=True)
    (folder / "000000007.safetensors").write_bytes(b"12345")
    then = time.time() - 3600 * hours_old
    os.utime(folder, (then, then))
    return folder


def pretraining(planned: Plan) -> list[Step]:
    return [step for step in planned.steps if step.stage == "pretrain"]


def test_a_checkpoint_is_collected_once_nothing_can_go_on_from_it(store: ArtifactStore, mini_plan: Plan) -> None:
    """Its artifact has been made since, or it is older than what counts as a study under way."""
    made, fresh, old = pretraining(mini_plan)[:3]
    record_all(store, Plan(mini_plan.study, (made,)))
    folders = [
        checkpoint_of(store, made),
        checkpoint_of(store, fresh, hours_old=1),
        checkpoint_of(store, old, hours_old=30),
    ]
    garbage = find_garbage(store, keep={made.key}, hours=24)
    assert set(garbage.abandoned) == {folders[0], folders[2]}
    assert garbage.bytes == 10
    collect(store, garbage)
    assert [folder.exists() for folder in folders] == [False, True, False]
    assert find_garbage(store, keep={made.key}, hours=0.5).abandoned == (folders[1],)


def test_whatever_lies_among_drafts_and_checkpoints_is_collected_and_nothing_it_leads_to(
    store: ArtifactStore, tmp_path: Path
) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_bytes(b"x" * 1_000)
    for place in (DRAFTS, CHECKPOINTS):
        folder = Path(store.root) / place
        folder.mkdir(parents=True)
        (folder / "file").touch()
        os.mkfifo(folder / "pipe")
        (folder / "itself").symlink_to("itself")
        (folder / "elsewhere").symlink_to(tmp_path / "kept")
    garbage = find_garbage(store)
    assert (len(garbage.abandoned), garbage.bytes) == (8, 0)
    collect(store, garbage)
    assert [list((Path(store.root) / place).iterdir()) for place in (DRAFTS, CHECKPOINTS)] == [[], []]
    assert (tmp_path / "kept" / "file").exists()


def test_a_checkpoint_of_a_training_under_way_is_left_alone(store: ArtifactStore, mini_plan: Plan) -> None:
    step = pretraining(mini_plan)[0]
    folder = checkpoint_of(store, step, hours_old=100)
    with store.lock(step.ref):
        assert find_garbage(store).abandoned == ()
    assert find_garbage(store).abandoned == (folder,)


def test_publishing_removes_the_checkpoint(store: ArtifactStore, mini_plan: Plan) -> None:
    first, second = pretraining(mini_plan)[:2]
    folder, other = checkpoint_of(store, first), checkpoint_of(store, second)
    record_all(store, Plan(mini_plan.study, (first,)))
    assert not folder.exists() and other.exists()


def test_a_store_elsewhere_keeps_checkpoints_on_this_machine(
    mini_plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = ArtifactStore("memory://checkpoints")
    folder = checkpoint_of(store, pretraining(mini_plan)[0], hours_old=2)
    assert folder.is_relative_to(tmp_path)
    garbage = find_garbage(store, hours=1)
    assert garbage.abandoned == (folder,)
    collect(store, garbage)
    assert not folder.exists()


def test_gc_from_the_command_line_keeps_fresh_checkpoints(
    mini_plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ArtifactStore(str(tmp_path / "data" / "artifacts"))
    fresh, old = pretraining(mini_plan)[:2]
    folders = [checkpoint_of(store, fresh, hours_old=3), checkpoint_of(store, old, hours_old=30)]
    tlm = command_line(monkeypatch, capsys)
    assert "would remove 0 artifacts and 1 abandoned drafts and checkpoints" in tlm("gc", "--home", str(tmp_path)).out
    assert [folder.exists() for folder in folders] == [True, True]
    tlm("gc", "--home", str(tmp_path), "--yes")
    assert [folder.exists() for folder in folders] == [True, False]


# --- studies that have not ended ---


def test_what_a_study_has_made_stays_until_it_ends_or_is_given_up(
    mini_plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ArtifactStore(str(tmp_path / "data" / "artifacts"))
    begin(store, mini_plan.study.name, mini_plan.steps)
    made = Plan(mini_plan.study, mini_plan.steps[:-1])
    record_all(store, made)
    checkpoint = checkpoint_of(store, mini_plan.report, hours_old=100)
    tlm = command_line(monkeypatch, capsys)
    arguments = ("gc", "--keep-hours", "0", "--yes", "--home", str(tmp_path))
    said = tlm(*arguments).out
    assert "removed 0 artifacts and 0 abandoned" in said and f"{mini_plan.study.name}, begun " in said
    assert len(list(store.records())) == len(made.steps) and checkpoint.exists()
    said = tlm(*arguments, "--unfinished").out
    assert f"removed {len(made.steps)} artifacts and 1 abandoned" in said
    assert list(unfinished(store)) == [] and "begun" not in tlm(*arguments).out


def test_a_study_that_ended_is_known_by_its_report_alone(store: ArtifactStore, mini_plan: Plan) -> None:
    begin(store, mini_plan.study.name, mini_plan.steps)
    begin(store, mini_plan.study.name, mini_plan.steps)  # another sitting
    [one] = unfinished(store)
    assert one.name == mini_plan.study.name and one.keys == {step.key for step in mini_plan.steps}
    record_all(store, mini_plan)
    end(store, mini_plan.steps)
    end(store, mini_plan.steps)  # two runs of it side by side
    assert list(unfinished(store)) == []
    assert {r.key for r in store.records()} == one.keys


def test_a_note_cut_short_is_passed_over(store: ArtifactStore, mini_plan: Plan) -> None:
    begin(store, mini_plan.study.name, mini_plan.steps)
    [one] = unfinished(store)
    Path(one.place).write_text('{"study": "mi')
    assert list(unfinished(store)) == []
    begin(store, mini_plan.study.name, mini_plan.steps)
    assert [study.keys for study in unfinished(store)] == [one.keys]


def test_a_store_elsewhere_has_its_notes_there(mini_plan: Plan) -> None:
    store = ArtifactStore("memory://unfinished")
    begin(store, mini_plan.study.name, mini_plan.steps)
    assert [study.name for study in unfinished(store)] == [mini_plan.study.name]
    end(store, mini_plan.steps)
    assert list(unfinished(store)) == []
