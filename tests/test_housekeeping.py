"""Removing artifacts: what a selector names and what was made from it; never what a report was made from."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import mini_study, record_all

from tlm.errors import UserError
from tlm.housekeeping import collect, find_garbage, recent, select
from tlm.plan import Plan, plan
from tlm.store import DRAFTS, ArtifactStore


@pytest.fixture
def filled(store: ArtifactStore, mini_plan: Plan) -> ArtifactStore:
    record_all(store, mini_plan)
    return store


def test_a_stage_selects_all_of_it_and_what_was_made_from_it(filled: ArtifactStore, mini_plan: Plan) -> None:
    own = {step.key for step in mini_plan.steps if step.stage == "pretrain"}
    assert {r.key for r in select(filled, "pretrain", downstream=False)} == own
    assert {r.key for r in select(filled, "pretrain")} == {step.key for step in mini_plan.below(own)}
    assert {r.stage for r in select(filled, "pretrain")} == {"pretrain", "finetune", "committee", "report"}


def test_a_slug_or_its_beginning_selects_within_a_stage(filled: ArtifactStore) -> None:
    assert {r.slug for r in select(filled, "pretrain/one", downstream=False)} == {
        "one-ws60-s0-p0",
        "one-ws120-s0-p0",
        "one-ws120-topics-random-unk-3-s0-p0",
    }
    assert len(select(filled, "pretrain/one-ws60-s0-p0", downstream=False)) == 1


def test_a_key_or_its_beginning_selects_one(filled: ArtifactStore, mini_plan: Plan) -> None:
    key = mini_plan.steps[0].key
    for selector in (key, key[:6]):
        assert [r.key for r in select(filled, selector, downstream=False)] == [key]


@pytest.mark.parametrize("selector", ["pre", "nothing", "abc", "pretrain/two", ""])
def test_a_selector_that_names_nothing_is_an_error(filled: ArtifactStore, selector: str) -> None:
    with pytest.raises(UserError, match="No artifact matches"):
        select(filled, selector)


def test_nothing_that_a_report_was_made_from_is_garbage(filled: ArtifactStore) -> None:
    assert find_garbage(filled).unreferenced == ()


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
