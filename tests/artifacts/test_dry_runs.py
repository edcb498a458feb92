"""Which steps and artifacts are of a dry run follows from what they were made from, and changes no key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers import mini_study, record_all

from tlm.artifacts.dry_runs import LABEL, dry_runs
from tlm.artifacts.store import ArtifactStore
from tlm.planning.plan import plan

CUT: list[tuple[dict[str, Any], set[str]]] = [
    ({"pretrain__max_steps": 1}, {"pretrain", "finetune", "committee", "latency", "report"}),
    ({"finetune__max_steps": 1}, {"finetune", "committee", "latency", "report"}),
]


@pytest.mark.parametrize(("changes", "stages"), CUT)
def test_what_was_trained_briefly_and_all_that_was_made_of_it_is_of_a_dry_run(
    changes: dict[str, Any], stages: set[str], mini_data: Path, store: ArtifactStore
) -> None:
    whole = {step.key: step for step in plan(mini_study(), str(mini_data)).steps}
    planned = plan(mini_study(**changes), str(mini_data))
    record_all(store, planned)
    marked = {step.key for step in planned.steps if step.labels.get(LABEL)}
    assert {step.stage for step in planned.steps if step.key in marked} == stages
    assert dry_runs(store.records()) == marked
    shared = [step for step in planned.steps if step.key in whole]
    assert shared and all(step == whole[step.key] for step in shared), "what both have is marked in neither"


def test_earlier_versions_wrote_no_label_and_their_dry_runs_are_known(mini_data: Path, store: ArtifactStore) -> None:
    planned = plan(mini_study(pretrain__max_steps=1), str(mini_data))
    record_all(store, planned)
    records = [
        record.model_copy(update={"labels": {name: of for name, of in record.labels.items() if name != LABEL}})
        for record in store.records()
    ]
    assert dry_runs(records) == {step.key for step in planned.steps if step.labels.get(LABEL)}
