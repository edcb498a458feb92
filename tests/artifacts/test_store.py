"""Artifacts: whole or not there, wherever the store is; found by key, wherever it moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from artifacts.some_rows import FILES, a_step, publish

from tlm.artifacts.listing import outputs_of
from tlm.artifacts.record import RECORD
from tlm.artifacts.step import ArtifactRef
from tlm.artifacts.store import ArtifactStore


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
