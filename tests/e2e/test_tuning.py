"""A search from the command line, killed in its midst and run again: trials in Optuna, MLflow and the result agree."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
import yaml
from helpers import mini_tree, write_mini_data
from project import Project

from tlm.tuning.result import TuningResult

pytestmark = pytest.mark.slow
TRIALS = 4
COMMAND = ("tune", "tuning.yaml", "--trials", str(TRIALS), "--out", "result.json")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A search that was killed after a trial's first fine-tuning, while another process waited, and then run to its end."""
    folder = tmp_path_factory.mktemp("tuned")
    write_mini_data(folder / "data")
    (folder / "mini.yaml").write_text(yaml.safe_dump({**mini_tree(), "finetune_seeds": [0, 1]}), encoding="utf-8")
    tuning = {
        "name": "rates",
        "study": "mini.yaml",
        "over": {"finetune.learning_rate": "log:1e-4:1e-1"},
        "objective": {"architectures": ["one"]},
        "at_once": 2,
    }
    (folder / "tuning.yaml").write_text(yaml.safe_dump(tuning), encoding="utf-8")
    project = Project(folder)
    first = project.start(*COMMAND, start_new_session=True)
    try:
        deadline = time.monotonic() + 600
        while not any(record.stage == "finetune" for record in project.store.records()):
            assert first.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(first.pid, signal.SIGSTOP)  # or it might end before the other one asks
        with (folder / "second.txt").open("w") as out:
            assert project.start(*COMMAND, out=out).wait(timeout=120) == 2
        assert "is being tuned by another process" in (folder / "second.txt").read_text()
        assert first.poll() is None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    (folder / "said.txt").write_text(project.tlm(*COMMAND), encoding="utf-8")
    return project


def result(project: Project) -> TuningResult:
    return TuningResult.model_validate_json((project.folder / "result.json").read_text(encoding="utf-8"))


def test_it_ends_with_every_trial_and_says_what_to_take_over(tuned: Project) -> None:
    found, said = result(tuned), (tuned.folder / "said.txt").read_text(encoding="utf-8")
    assert [trial.number for trial in found.trials] == list(range(TRIALS))
    assert {trial.state for trial in found.trials} <= {"complete", "pruned"}
    assert found.start and found.trials[0].values == {"finetune.learning_rate": 1e-3}
    assert found.best is not None and f"--set {found.best.overrides[0]}" in said
    assert f"{TRIALS} trials" in said and "0 (as it is)" in said


def test_the_result_is_that_of_its_artifacts_which_hold_no_test_item(tuned: Project) -> None:
    found, records = result(tuned), {record.key: record for record in tuned.store.records()}
    for trial in found.trials:
        reached = [records[key].facts["dev_accuracy"] for key in trial.finetuned]
        assert trial.value == pytest.approx(sum(reached) / len(reached))
    for record in records.values():
        assert record.stage not in ("committee", "baseline", "report")
        if record.stage in ("task", "finetune"):
            file = "items.parquet" if record.stage == "task" else "predictions.parquet"
            assert "test" not in set(pd.read_parquet(tuned.path(record, file))["part"])


def test_trials_share_what_they_have_in_common(tuned: Project) -> None:
    stages = [record.stage for record in tuned.store.records()]
    made = {key for trial in result(tuned).trials for key in trial.finetuned}
    assert stages.count("pretrain") == 1 and stages.count("finetune") == len(made)


def test_a_search_that_has_ended_costs_nothing_and_says_the_same(tuned: Project) -> None:
    before = result(tuned)
    said = tuned.tlm("tune", "tuning.yaml", "--trials", str(TRIALS), "--out", "trials.parquet")
    assert f"{TRIALS} done" in said
    after = TuningResult.model_validate_json(_kept(tuned).read_text(encoding="utf-8"))
    assert after.trials == before.trials and after.key == before.key
    assert pd.read_parquet(tuned.folder / "trials.parquet")["value"].tolist() == [t.value for t in before.trials]


def test_the_study_that_takes_the_values_over_finds_its_pre_training_made(tuned: Project) -> None:
    best = result(tuned).best
    assert best is not None
    said = tuned.tlm("plan", "mini.yaml", "--no-time", "--steps", "--set", best.overrides[0])
    [line] = [
        line for line in said.splitlines() if "pretrain" in line and "one-ws120-s0-p0" in line and "trial" not in line
    ]
    assert "cached" in line


def test_mlflow_has_a_run_for_the_search_and_one_below_it_for_each_trial(tuned: Project) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tuned.folder / 'home' / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tlm-tuning")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    [search] = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    found = result(tuned)
    assert found.best is not None
    assert search.info.status == "FINISHED" and search.data.metrics["dev_accuracy"] == pytest.approx(found.best.value)
    trials = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == search.info.run_id]
    assert sorted(int(run.data.tags["trial"]) for run in trials) == list(range(TRIALS))
    states = {trial.number: trial.state for trial in found.trials}
    for run in trials:
        number = int(run.data.tags["trial"])
        assert run.info.status == {"complete": "FINISHED", "pruned": "KILLED"}[states[number]]
        assert run.data.tags["finetuned"].split() == list(found.trials[number].finetuned)


def _kept(project: Project) -> Path:
    [path] = (project.folder / "home" / "data" / "tuning").glob("rates-*/result.json")
    return path
