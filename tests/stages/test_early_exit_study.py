"""A study of a model with exits: its threshold is found on held-out text, its scores stand beside those of all layers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers import mini_study, only, write_mini_data

from tlm.artifacts import marts
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.execution.execute import execute
from tlm.machine.runtime import Runtime
from tlm.planning.plan import Plan, plan
from tlm.report.marts import Rows, rows
from tlm.stages import STAGES

LLAMA: dict[str, Any] = {
    "name": "exits",
    "kind": "llama",
    "num_hidden_layers": 3,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "options": {"exits": [1, 2]},
}
LIKELIHOOD = {"kind": "likelihood", "data": {"kind": "files", "path": "items.jsonl"}}
CHANGES: dict[str, Any] = {
    "architectures": [LLAMA, {**LLAMA, "name": "none", "options": {}}],
    "evaluations": [
        LIKELIHOOD,
        {"kind": "early_exit", "layers": 0.7},
        {"kind": "early_exit", "threshold": 1.0},
    ],
    "corpus__sizes": [60],
    "treatments": [],
    "treatment_architectures": None,
    "committees": [],
    "tasks": [],
}
Studied = tuple[Plan, ArtifactStore, Rows]


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studied]:
    folder: Path = tmp_path_factory.mktemp("exits")
    data = write_mini_data(folder / "raw")
    items = [{"prefix": "the old", "options": ["ship saw", "zebra saw"], "gold": 0}]
    items += [{"prefix": "a small", "options": ["horse", "ship ship"], "gold": 1}]
    (data / "items.jsonl").write_text("\n".join(map(json.dumps, items)), encoding="utf-8")
    planned = plan(mini_study(**CHANGES), str(data))
    runtime = Runtime(home=str(folder / "home"), data_root=str(data), isolate=False)
    for step in planned.steps:
        execute(step, runtime)
    store = ArtifactStore(runtime.artifacts)
    with marts.build_memory(store, list(store.records()), STAGES) as connection:
        yield planned, store, rows(connection, "select * from likelihood order by system")


def test_scores_with_exits_stand_beside_those_of_all_layers(studied: Studied) -> None:
    found = {row["system"]: row for row in studied[2]}
    assert list(found) == ["exits", "exits, exits 70 %", "exits, exits at 1", "none"]
    assert found["exits"]["layers"] is found["none"]["layers"] is None
    assert 1 / 3 <= found["exits, exits 70 %"]["layers"] <= 1 and found["exits, exits 70 %"]["flops_share"] > 0
    assert len({row["setting"] for row in studied[2]}) == 4
    assert {row["heldout_bits_per_byte"] for row in studied[2] if row["arch"] == "exits"} == {
        found["exits"]["heldout_bits_per_byte"]
    }
    assert found["exits"]["heldout_bits_per_byte"] > 0


def test_threshold_1_scores_as_the_whole_model_does_to_the_bit(studied: Studied) -> None:
    planned, store, _ = studied
    whole = store.get(only(planned, "option_scores", arch="exits").ref).path("scores.parquet")
    at_1 = store.get(only(planned, "exit_scores", arm="exits at 1").ref)
    assert pd.read_parquet(whole).equals(pd.read_parquet(at_1.path("scores.parquet")))
    assert (at_1.record.facts["layers"], at_1.record.facts["flops_share"]) == (1.0, 1.0)


def test_the_threshold_is_the_highest_with_which_held_out_text_uses_so_many_layers(studied: Studied) -> None:
    planned, store, _ = studied
    swept = pd.read_parquet(store.get(only(planned, "exit_sweep").ref).path("exits.parquet"))
    assert swept["layers"].iloc[0] == pytest.approx(1 / 3) and swept["layers"].iloc[-1] == 1.0
    assert swept["loss"].notna().all()
    chosen = store.get(only(planned, "exit_scores", arm="exits 70 %").ref).record.facts["threshold"]
    assert chosen == swept.loc[swept["layers"] <= 0.7, "threshold"].max()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"architectures": [{**LLAMA, "options": {}}]}, "no model has exits"),
        ({"evaluations": [{"kind": "early_exit", "layers": 0.5}]}, "no benchmark is asked by likelihood"),
        ({"evaluations": [LIKELIHOOD, {"kind": "early_exit", "layers": 0.3}]}, "layers=0.3, but the first exit"),
    ],
)
def test_what_cannot_leave_early_is_refused_before_any_work(
    changes: dict[str, Any], complaint: str, studied: Studied, mini_data: Path
) -> None:
    (mini_data / "items.jsonl").write_text('{"prefix": "", "options": ["ship", "saw"], "gold": 0}', encoding="utf-8")
    with pytest.raises(UserError, match=complaint):
        plan(mini_study(**{**CHANGES, **changes}), str(mini_data))


def test_threshold_and_layers_are_one_of_two_and_an_objective_trains_the_exits() -> None:
    for given in ({}, {"threshold": 0.5, "layers": 0.5}):
        with pytest.raises(ValueError, match="give either threshold, or layers"):
            mini_study(**{**CHANGES, "evaluations": [LIKELIHOOD, {"kind": "early_exit", **given}]})
    with pytest.raises(ValueError, match="multi_token does not train the exits of exits"):
        mini_study(**{**CHANGES, "pretrain__objective": {"kind": "multi_token"}})
