"""Explaining: the field that changed, the steps that run again because of it, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers import mini_study, record_all
from hypothesis import given
from hypothesis import strategies as st

from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.planning.explain import LENGTH, Change, Explanation, _short, explain, find_run
from tlm.planning.plan import Plan, plan
from tlm.stages import STAGES


def make(root: Path, **changes: Any) -> Plan:
    return plan(mini_study(**changes), str(root))


@pytest.fixture
def recorded(store: ArtifactStore, mini_data: Path) -> ArtifactStore:
    record_all(store, make(mini_data), "run7")
    return store


def changes(found: Explanation) -> set[tuple[str, Any, Any]]:
    return {(c.place, c.before, c.after) for c in found.changes}


def test_nothing_changed(recorded: ArtifactStore, mini_data: Path) -> None:
    planned = make(mini_data)
    found = explain(planned, recorded, "mini")
    assert found.changes == () and found.causes == ()
    assert list(found.reused) == list(planned.steps)
    assert found.against.ref == planned.report.ref


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("finetune__epochs", 3, ("finetune.epochs", "2", "3")),
        ("title", "Another", ("title", "A miniature", "Another")),
        ("corpus__sizes", [0, 60, 90, 120], ("corpus.sizes", "[0, 60, 120]", "[0, 60, 90, 120]")),
        ("tasks__0__seed", 5, ("tasks.topics.seed", "0", "5")),
        ("architectures__1__conv_channels", 3, ("architectures.conv.conv_channels", "2", "3")),
    ],
)
def test_the_changed_field_is_named_with_both_values(
    field: str, value: Any, expected: tuple[str, str, str], recorded: ArtifactStore, mini_data: Path
) -> None:
    assert changes(explain(make(mini_data, **{field: value}), recorded, "mini")) == {expected}


def test_steps_that_run_again_are_those_whose_keys_changed_and_each_has_its_reason(
    recorded: ArtifactStore, mini_data: Path
) -> None:
    before, after = make(mini_data), make(mini_data, pretrain__steps=7)
    found = explain(after, recorded, "mini")
    known = {step.key for step in before.steps}
    assert [step.key for step, _ in found.causes] == [step.key for step in after.steps if step.key not in known]
    reasons = {(step.stage, reason) for step, reason in found.causes}
    assert ("pretrain", "pretrain.steps: 6 → 7") in reasons
    assert ("finetune", "made from pretrain/one-ws60-s0-p0") in reasons
    assert {stage for stage, _ in reasons} == {"pretrain", "finetune", "latency", "committee", "report"}


def test_a_step_that_is_new_is_called_new(recorded: ArtifactStore, mini_data: Path) -> None:
    found = explain(make(mini_data, corpus__sizes=[0, 60, 90, 120]), recorded, "mini")
    assert {(s.stage, reason) for s, reason in found.causes if s.stage == "corpus"} == {("corpus", "new in this study")}


@given(st.text(), st.text(), st.text())
def test_values_that_differ_are_shown_to_differ(alike: str, one: str, other: str) -> None:
    before, after = f"{alike * 40}{one}", f"{alike * 40}{other}"
    shown = _short(before, after)
    assert max(map(len, shown)) <= LENGTH
    assert (shown[0] == shown[1]) == (before == after) or one[:40] == other[:40]


def test_a_changed_file_is_told_from_the_other_files_of_the_study(recorded: ArtifactStore, mini_data: Path) -> None:
    with open(mini_data / "corpus.csv", "a") as file:
        file.write("One more paragraph.\n")
    found = explain(make(mini_data), recorded, "mini")
    assert {change.place for change in found.changes} == {"source.sha256.all-00000"}
    assert [(s.stage, s.slug) for s, _ in found.causes if s.stage == "source"] == [("source", "files-corpus")]


def test_a_changed_stage_version_is_named(
    recorded: ArtifactStore, mini_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(STAGES["overlap"], "version", "99")
    found = explain(make(mini_data), recorded, "mini")
    assert Change("stage overlap VERSION", "1", "99") in found.changes
    assert ("overlap", "stage VERSION 1 → 99") in {(s.stage, r) for s, r in found.causes}


def test_a_run_is_found_by_study_by_key_and_by_mlflow_run(recorded: ArtifactStore, mini_data: Path) -> None:
    report = make(mini_data).report
    for name in ("mini", report.key, report.key[:8], "run7-report"):
        assert find_run(recorded, name).key == report.key


def test_an_unknown_run_is_an_error_that_lists_the_recorded_ones(recorded: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No recorded run 'nothing'\. Recorded: mini [0-9a-f]{12} \("):
        find_run(recorded, "nothing")
    with pytest.raises(UserError, match="Recorded: none yet"):
        find_run(ArtifactStore(str(tmp_path / "empty")), "mini")
