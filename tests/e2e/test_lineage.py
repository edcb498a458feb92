"""From a fine-tuned accuracy back to the corpus and the commit, through MLflow's API alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import duckdb
import pytest
from project import Project

pytestmark = pytest.mark.slow


def test_an_accuracy_leads_back_to_the_corpus_digest_and_the_commit(project: Project) -> None:
    from mlflow import MlflowClient

    record = project.record("finetune", "topics-one-ws120-s0-p0")
    client = MlflowClient(tracking_uri=f"sqlite:///{project.folder / 'home' / 'mlflow' / 'mlflow.db'}")
    run = client.get_run(record.mlflow["run_id"])
    assert run.data.metrics["test_accuracy"] == record.facts["test_accuracy"]
    assert run.data.tags["step_key"] == record.key
    assert {run.data.tags[name] for name in ("ws", "arch", "task", "seed")} == {"120", "one", "topics", "0"}
    assert json.loads(run.data.tags["input_keys"]) == {name: ref.key for name, ref in record.inputs.items()}
    assert run.data.tags["mlflow.source.git.commit"] == record.provenance["git_commit"]
    pretrained = client.get_run(run.data.tags["input_run.pretrained"])
    curve = client.get_metric_history(pretrained.info.run_id, "train_loss")
    assert [point.step for point in curve] == sorted(point.step for point in curve) != []
    corpus = client.get_run(pretrained.data.tags["input_run.corpus"])
    dataset = next(d.dataset for d in pretrained.inputs.dataset_inputs if d.tags[0].value == "corpus")
    held = project.record("corpus", "ws120")
    assert json.loads(dataset.source)["sha256"] == {name: o.sha256 for name, o in sorted(held.outputs.items())}
    tokens = client.get_run(corpus.data.tags["input_run.tokens"])
    source = client.get_run(tokens.data.tags["input_run.source"])
    digests = [value for value in source.data.params.values() if len(value) == 64]
    assert digests, source.data.params


def test_trained_models_are_logged_as_safetensors(project: Project) -> None:
    from mlflow import MlflowClient

    record = project.record("pretrain", "conv-ws60")
    client = MlflowClient(tracking_uri=f"sqlite:///{project.folder / 'home' / 'mlflow' / 'mlflow.db'}")
    run = client.get_run(record.mlflow["run_id"])
    model = client.get_logged_model(run.outputs.model_outputs[0].model_id)
    assert {file.path for file in client.list_logged_model_artifacts(model.model_id)} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert model.tags["sha256"] == record.outputs["model.safetensors"].sha256


def test_cache_hits_are_linked_to_the_run_that_made_them(project: Project) -> None:
    from mlflow import MlflowClient

    project.run()
    client = MlflowClient(tracking_uri=f"sqlite:///{project.folder / 'home' / 'mlflow' / 'mlflow.db'}")
    [experiment] = client.search_experiments(filter_string="name = 'tlm'")
    study = client.search_runs([experiment.experiment_id], "attributes.run_name = 'mini'", max_results=1)[0]
    table = json.loads(Path(client.download_artifacts(study.info.run_id, "cached_steps.json")).read_text("utf-8"))
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    made_by = {row["step_key"]: row["made_by_run"] for row in rows}
    assert made_by == {record.key: record.mlflow["run_id"] for record in project.records().values()}
    assert study.data.metrics["cache_hits"] == study.data.metrics["steps"] == len(made_by)
    assert not client.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{study.info.run_id}'")


def test_the_catalogue_answers_from_any_folder(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    with duckdb.connect(str(project.folder / "home" / "data" / "catalogue.duckdb"), read_only=True) as connection:
        systems = {row[0] for row in connection.execute("select distinct system from results").fetchall()}
        assert systems == {"one", "conv", "pair", "tfidf", "majority"}
        for view in ("runs", "overlap", "token_counts", "predictions", "results"):
            [(count,)] = connection.execute(f"select count(*) from {view}").fetchall()
            assert count > 0, view


def test_an_mlflow_that_was_removed_is_made_again_from_the_records(project: Project, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    other = Project(tmp_path)
    shutil.copytree(project.folder / "home" / "data" / "artifacts", tmp_path / "home" / "data" / "artifacts")
    records = project.records().values()
    assert f"{len(records)} artifacts logged from their records, 0 were there" in other.tlm("track")
    places = (f"sqlite:///{each.folder / 'home' / 'mlflow' / 'mlflow.db'}" for each in (project, other))
    before, after = (MlflowClient(tracking_uri=place) for place in places)
    parents = {record.mlflow["parent_run_id"] for record in records}
    for run_id in {*parents, *(record.mlflow["run_id"] for record in records)}:
        old, new = before.get_run(run_id), after.get_run(run_id)
        assert (new.info.run_name, new.info.status) == (old.info.run_name, old.info.status)
        assert (new.data.params, new.data.tags) == (old.data.params, old.data.tags)
        assert new.data.metrics == old.data.metrics
        if run_id not in parents:
            assert abs(new.info.end_time - old.info.end_time) < 1000
            for name in old.data.metrics:
                histories = [client.get_metric_history(run_id, name) for client in (before, after)]
                points = [sorted((m.step, m.value) for m in history) for history in histories]
                assert points[0] == points[1]
                # Those of a curve bear the time when they arrived, which records do not know.
                assert all(run.info.start_time <= m.timestamp for m in histories[0] for run in (old, new))
    assert f"0 artifacts logged from their records, {len(records)} were there" in other.tlm("track")
