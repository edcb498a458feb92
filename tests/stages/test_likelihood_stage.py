"""An evaluation by likelihood in a study: planned, run, in the catalogue and in the report."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from helpers import mini_study, only, write_mini_data

from tlm.artifacts import catalogue, marts, sql_models
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.execution.execute import execute
from tlm.machine.runtime import Runtime
from tlm.planning.plan import Plan, plan
from tlm.planning.preflight import check
from tlm.stages import STAGES

ITEMS = [
    {"prefix": "the old", "options": ["ship saw", "zebra saw"], "gold": 0, "topic": "sea"},
    {"prefix": "the old", "options": ["ship saw", "SHIP saw"], "gold": 1, "topic": "sea"},
    {"prefix": "a small", "options": ["qqq qqq qqq", "horse"], "gold": 1, "topic": "land"},
]
OWN_FILE = {"kind": "files", "path": "items.jsonl"}
EVALUATION = {"kind": "likelihood", "data": {**OWN_FILE, "group_column": "topic", "average": "groups"}}
DECODER = {
    "name": "gpt",
    "kind": "decoder",
    "num_hidden_layers": 1,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
ENCODER = {**DECODER, "name": "one", "kind": "encoder"}
CHANGES = {
    "evaluations": [EVALUATION],
    "architectures": [ENCODER, DECODER],
    "corpus__sizes": [60],
    "treatments": [],
    "treatment_architectures": None,
    "committees": [],
    "tasks": [],
}


class Scored:
    def __init__(self, folder: Path) -> None:
        data = write_mini_data(folder / "raw")
        (data / "items.jsonl").write_text("\n".join(map(json.dumps, ITEMS)), encoding="utf-8")
        self.data = str(data)
        self.plan: Plan = plan(mini_study(**CHANGES), str(data))
        runtime = Runtime(home=str(folder / "home"), data_root=str(data), isolate=False)
        for step in self.plan.steps:
            execute(step, runtime)
        self.store = ArtifactStore(runtime.artifacts)
        self.catalogue = folder / "catalogue.duckdb"
        assert catalogue.build(self.store, self.catalogue, STAGES) == {}

    def frame(self, stage: str, file: str, **labels: str) -> pd.DataFrame:
        return pd.read_parquet(self.store.get(only(self.plan, stage, **labels).ref).path(file))


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    return Scored(tmp_path_factory.mktemp("likelihood"))


NULLS = ["untrained", "fewest_tokens", "fewest_bytes", "ngram"]


def test_a_score_stands_beside_its_nulls_in_the_catalogue_and_in_the_report(scored: Scored) -> None:
    with duckdb.connect(str(scored.catalogue), read_only=True) as connection:
        summary = connection.sql("select * from likelihood").df()
        items = connection.sql("select * from likelihood_items").df()
        groups = connection.sql("select * from likelihood_groups").df()
    assert sorted(summary["system"]) == ["gpt", "one"] and set(summary["task"]) == {"items"}
    assert (summary["items"] == 3).all() and (summary["ties"] == 1).all() and (summary["chance"] == 0.5).all()
    assert (items.set_index("item_id").loc["items.jsonl:2", ["model", *NULLS]] == 0.5).all(axis=None)
    by_group = items.groupby(["key", "item_group"])["model"].mean().groupby("key").mean()
    assert summary.set_index("key")["score"].to_dict() == pytest.approx(by_group.to_dict())
    assert len(groups) == 4 and set(groups["item_group"]) == {"land", "sea"}
    report = (scored.store.get(scored.plan.report.ref).path("report.md")).read_text(encoding="utf-8")
    assert "## Options by likelihood" in report and "5-gram" in report


def test_what_a_model_was_before_its_training_is_scored_once_for_every_ws(scored: Scored) -> None:
    trained, before = (
        scored.frame(stage, "scores.parquet", arch="gpt")["log_p"] for stage in ("option_scores", "untrained_scores")
    )
    assert trained.notna().all() and before.notna().all() and (trained != before).all()
    more = plan(mini_study(**{**CHANGES, "corpus__sizes": [60, 120]}), scored.data)
    stages = [step.stage for step in more.steps]
    assert stages.count("likelihood") == stages.count("option_scores") == 4
    assert stages.count("untrained_scores") == stages.count("ngram_scores") == stages.count("contained") == 2
    assert stages.count("benchmark") == 1


@pytest.mark.parametrize("what", ["items", "units"])
def test_the_ready_query_answers_and_the_check_can_fail(what: str, scored: Scored) -> None:
    assert catalogue.query(scored.catalogue, sql_models.ready_query("likelihood_against_nulls")).num_rows
    check = (sql_models.sql_folder() / "checks" / f"likelihood_is_that_of_its_{what}.sql").read_text()
    with marts.build_memory(scored.store, list(scored.store.records()), STAGES) as connection:
        assert connection.execute(check).fetchall() == []
        connection.execute("update likelihood set score = score / 2 + 0.01")
        assert connection.execute(check).fetchall()


def test_the_benchmark_is_read_before_anything_is_trained(scored: Scored) -> None:
    stages = [step.stage for step in scored.plan.steps]
    assert max(map(stages.index, ("benchmark", "contained", "ngram_scores"))) < stages.index("pretrain")
    classifying = {name: value for name, value in CHANGES.items() if name not in ("tasks", "evaluations")}
    without, both = (plan(mini_study(**classifying, evaluations=each), scored.data) for each in ([], [EVALUATION]))
    assert {step.key for step in without.steps[:-1]} <= {step.key for step in both.steps}


def test_the_models_of_every_arm_are_scored_and_go_by_its_name(scored: Scored) -> None:
    arms = {"plain": {}, "longer": {"budgets": [3, 5]}}
    planned = plan(mini_study(**CHANGES, arms=arms), scored.data)
    found = [step.labels for step in planned.steps if step.stage == "likelihood"]
    assert sorted({(each["arm"], each.get("budget")) for each in found}, key=str) == [
        ("longer", 3),
        ("longer", 5),
        ("plain", None),
    ]
    assert len(found) == 3 * len(CHANGES["architectures"])


def test_a_study_that_measures_nothing_is_refused() -> None:
    for fields in ({"evaluations": []}, {"committees": [{"name": "both", "members": ["one", "gpt"]}]}):
        with pytest.raises(ValueError, match="tasks: none, but"):
            mini_study(**{**CHANGES, **fields})


def test_a_pre_training_set_that_holds_every_item_is_refused(tmp_path: Path) -> None:
    held = [{"prefix": "", "options": [word, "qqq"], "gold": 0} for word in ("the", "old", "saw")]
    data = write_mini_data(tmp_path / "raw")
    (data / "items.jsonl").write_text("\n".join(map(json.dumps, held)), encoding="utf-8")
    study = mini_study(**{**CHANGES, "evaluations": [{"kind": "likelihood", "data": OWN_FILE}]})
    planned = plan(study, str(data))
    runtime = Runtime(home=str(tmp_path / "home"), data_root=str(data), isolate=False)
    contained = only(planned, "contained")
    with pytest.raises(UserError, match="holds text of every one of the 3 items of items"):
        for step in planned.steps[: planned.steps.index(contained) + 1]:
            execute(step, runtime)


def test_a_benchmark_that_cannot_be_read_is_an_error_before_any_work(mini_data: Path, tmp_path: Path) -> None:
    (mini_data / "items.jsonl").write_text('{"prefix": "the", "options": ["ship"], "gold": 0}', encoding="utf-8")
    runtime = Runtime(home=str(tmp_path / "home"), data_root=str(mini_data), isolate=False)
    study = mini_study(**{**CHANGES, "evaluations": [{"kind": "likelihood", "data": OWN_FILE}]})
    with pytest.raises(UserError, match="items.jsonl, line 1: 1 option"):
        check(study, runtime)
    assert not list(tmp_path.glob("home/data/artifacts/*/*"))
