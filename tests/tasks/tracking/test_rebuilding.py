"""`tlm track`: an MLflow that was lost comes back as it was, from records alone; what is there is left as it is."""

from __future__ import annotations

import shutil
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from helpers import Tlm, command_line, mini_study
from tracked_home import Home

from tlm.artifacts.record import RECORD, Record, to_file
from tlm.artifacts.step import Step
from tlm.machine.runtime import Runtime

pytestmark = pytest.mark.slow  # MLflow takes seconds to import, and to make a database


class Forgetful(OrderedDict[str, Any]):
    """MLflow keeps where a run's files are by its id alone, but here one id is a run of several MLflows."""

    def __setitem__(self, *_: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def _each_mlflow_has_files_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.tracking._tracking_service import utils

    monkeypatch.setattr(utils, "_artifact_repos_cache", Forgetful())


def report(name: str, *inputs: Step) -> Step:
    study = mini_study(name=name).model_dump(mode="json")
    refs = {f"{step.stage}/{step.slug}-{step.key[:8]}": step.ref for step in inputs}
    labels = {"study": name}
    return Step(stage="report", version="4", config={"study": study}, inputs=refs, slug=name, labels=labels)


@pytest.fixture
def studies(runtime: Runtime, steps: list[Step]) -> Home:
    """Two studies that share all steps but their reports, and call them by other names."""
    home = Home(runtime)
    ordered = [*steps[2:], *steps[:2]]
    for name in ("first", "second"):
        own = report(name, *ordered)
        home.open(name, content=mini_study(name=name).model_dump(mode="json"))
        for step in ordered:
            named = step.model_copy(update={"labels": {"task": name}})
            if name == "first":
                home.make(named)
        home.make(own)
        hits = ordered if name == "second" else []
        home.close(report=own, hits=hits, steps=5, cache_hits=len(hits))
    return home


def lost(home: Home, database: Path, folder: Path, change: Callable[[Record], Record] = lambda record: record) -> Home:
    """The same artifacts in another place, with an MLflow in which nothing is; `change` is made to each record."""
    runtime = home.runtime.model_copy(update={"home": str(folder)})
    shutil.copytree(home.store.root, runtime.artifacts)
    runtime.mlflow_folder.mkdir(parents=True)
    shutil.copyfile(database, runtime.mlflow_folder / "mlflow.db")
    other = Home(runtime)
    for record in other.store.records():
        (Path(other.store.root) / str(record.ref) / RECORD).write_bytes(to_file(change(record)))
    return other


def shown(home: Home) -> dict[str, dict[str, Any]]:
    """All runs of a home's MLflow by their id, each with all that it shows."""
    found = {}
    for run in home.runs():
        tags, client = dict(run.data.tags), home.client
        models = [client.get_logged_model(model.model_id) for model in run.outputs.model_outputs]
        found[run.info.run_id] = {
            "name": run.info.run_name,
            "status": run.info.status,
            "params": run.data.params,
            "tags": tags,
            "metrics": {
                each: [(m.step, m.value, m.timestamp) for m in client.get_metric_history(run.info.run_id, each)]
                for each in run.data.metrics
            },
            "files": sorted(file.path for file in client.list_artifacts(run.info.run_id)),
            "hits": home.hits(run),
            "inputs": sorted((d.dataset.name, d.dataset.digest, d.tags[0].value) for d in run.inputs.dataset_inputs),
            "models": [(model.name, str(model.status), model.tags, model.params) for model in models],
        }
    return found


def tracked(home: Home, **options: Any) -> tuple[int, int, int, int]:
    """Track, and return how many were made, present, completed and killed."""
    from tasks.tracking.rebuilding import track

    done = track(home.runtime, **options)
    return done.made, done.present, done.settled.completed, done.settled.killed


def differences(one: dict[str, dict[str, Any]], other: dict[str, dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Which run differs in what, and how."""
    both = [(run, name) for run in {*one, *other} for name in one.get(run, other.get(run, {}))]
    found = [(run, name, one.get(run, {}).get(name), other.get(run, {}).get(name)) for run, name in both]
    return [each for each in found if each[2] != each[3]]


def without_times(view: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A view without when a study's own numbers were logged, which no record says."""
    return {
        name: run if "step_key" in run["tags"] else {**run, "metrics": {n: p[0][1] for n, p in run["metrics"].items()}}
        for name, run in view.items()
    }


def test_an_mlflow_that_was_lost_comes_back_as_it_was(studies: Home, database: Path, tmp_path: Path) -> None:
    other = lost(studies, database, tmp_path / "other")
    before = shown(studies)
    assert len(before) == 8, "two studies, six artifacts"
    [hits] = [run["hits"] for run in before.values() if run["hits"]]
    assert hits.items() <= {record.key: record.mlflow["run_id"] for record in studies.store.records()}.items()
    assert len(hits) == 4
    assert tracked(other) == (6, 0, 0, 0)
    after = shown(other)
    assert differences(without_times(before), without_times(after)) == []
    assert tracked(other) == (0, 6, 0, 0)
    assert differences(after, shown(other)) == [], "what is there is left as it is"


def test_it_goes_on_wherever_it_was_interrupted(studies: Home, database: Path, tmp_path: Path) -> None:
    whole = lost(studies, database, tmp_path / "whole")
    tracked(whole)
    other = lost(studies, database, tmp_path / "other")
    from tasks.tracking import database as file
    from tasks.tracking import runs

    times = 0
    for module, name in ((file, "rename_run"), (runs, "log_files"), (runs, "finish"), (runs, "log_content")):
        for call in (1, 3):
            with pytest.MonkeyPatch.context() as patch:
                calls = []

                def interrupted(*arguments: Any, module: Any = module, name: str = name, call: int = call) -> Any:
                    calls.append(1)
                    if len(calls) == call:
                        raise KeyboardInterrupt
                    return real(*arguments)

                real = getattr(module, name)
                patch.setattr(module, name, interrupted)
                with suppress(KeyboardInterrupt):
                    tracked(other)
                times += len(calls) >= call
    assert times >= 5
    tracked(other)
    assert without_ids(shown(other)) == without_ids(shown(whole))


def without_ids(view: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs of a view, without ids that no record names."""
    loose = ("mlflow.parentRunId", "tlm.from_record")
    found = [
        {
            **run,
            "tags": {n: v for n, v in run["tags"].items() if n not in loose and not n.startswith("input_run.")},
            "hits": sorted(run["hits"]),
        }
        for run in view.values()
    ]
    return sorted(found, key=lambda run: (run["name"], run["status"], str(run["tags"])))


def test_another_mlflow_gives_runs_other_ids_that_lead_to_the_same(
    studies: Home, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server lets nobody choose a run's id."""
    from tasks.tracking import rebuilding, view

    for module in (view, rebuilding):
        monkeypatch.setattr(module, "renamed", lambda uri, run_id, wanted: run_id)
    other = lost(studies, database, tmp_path / "other")
    made = tracked(other)[0]
    found = {run.info.run_id: run for run in other.runs()}
    for record in other.store.records():
        [run] = [
            r
            for r in found.values()
            if r.data.tags.get("step_key") == record.key and r.data.tags["tlm.cache"] == "miss"
        ]
        if record.mlflow:
            assert run.info.run_id != record.mlflow["run_id"] == run.data.tags["tlm.from_record"]
        for name, ref in record.inputs.items():
            assert found[run.data.tags[f"input_run.{name}"]].data.tags["step_key"] == ref.key
    [hits] = [other.hits(run) for run in found.values() if other.hits(run)]
    assert [found[run].data.tags["step_key"] for run in hits.values()] == list(hits), "the ids that they have here"
    assert tracked(other) == (0, made, 0, 0) and len(other.runs()) == len(found)


def test_older_records_do_not_name_the_study_and_are_found_by_its_report(
    studies: Home, steps: list[Step], database: Path, tmp_path: Path
) -> None:
    def older(record: Record) -> Record:
        known = {n: v for n, v in (record.mlflow or {}).items() if n in ("run_id", "experiment_id")}
        return record.model_copy(update={"mlflow": known or None})

    loose = Step(stage="tokens", version="1", config={"max_length": 99}, inputs=steps[0].inputs, slug="loose")
    studies.publish(loose, None)
    other = lost(studies, database, tmp_path / "other", older)
    assert tracked(other)[0] == 7
    names = {run.info.run_name: run for run in other.runs() if "stage" not in run.data.tags}
    assert set(names) == {"first", "second", "earlier"}
    assert names["first"].info.status == names["second"].info.status == "FINISHED"
    assert names["first"].data.metrics == {"steps": 5, "cache_hits": 0}
    assert names["second"].data.metrics == {"steps": 5, "cache_hits": 4}
    for record in other.store.records():
        if record.mlflow:
            assert other.client.get_run(record.mlflow["run_id"]).info.status == "FINISHED"
    assert tracked(other)[:2] == (0, 7)


def test_runs_without_a_report_end_as_what_made_them_did(
    home: Home, steps: list[Step], database: Path, tmp_path: Path
) -> None:
    home.open("failed")
    home.make(steps[0])
    home.close("FAILED")
    home.open("import", command="import", content={"imported_from": "bundle"})
    run = home.run_of(steps[1])
    record = home.publish(steps[1], run.start_import(home.store.get(steps[0].ref).record, "bundle"))
    run.finish(record)
    home.close()
    other = lost(home, database, tmp_path / "other")
    tracked(other)
    failed, came = (next(iter(other.runs(f"attributes.run_name = '{name}'"))) for name in ("failed", "import"))
    assert failed.info.status == "KILLED" and "ended before its report" in failed.data.tags["mlflow.note.content"]
    assert came.info.status == "FINISHED" and came.data.metrics == {"imported": 1}
    assert other.client.get_run(record.mlflow["run_id"]).data.tags["tlm.imported_from"] == "bundle"


def test_a_run_that_only_mended_an_artifact_had_found_its_report(
    studies: Home, steps: list[Step], database: Path, tmp_path: Path
) -> None:
    studies.open("first")
    again = studies.publish(steps[0], studies.run_of(steps[0]).start("a byte differs"))
    studies.close()
    made = again.model_copy(update={"created": "2999-01-01T00:00:00+00:00"})
    other = lost(studies, database, tmp_path / "other", lambda record: made if record.key == made.key else record)
    tracked(other)
    mended = other.client.get_run(made.mlflow["parent_run_id"])
    assert mended.info.status == "FINISHED" and mended.data.metrics == {"steps": 5, "cache_hits": 4}
    assert other.client.get_run(made.mlflow["run_id"]).data.tags["tlm.rebuilt_because"] == "a byte differs"


def test_what_older_processes_left_running_is_ended(home: Home, steps: list[Step]) -> None:
    """They left no notes: a run of a study and of its step, with an artifact and without."""
    home.open("old")
    made = home.publish(steps[0], home.run_of(steps[0]).start())
    home.run_of(steps[1]).start()
    home.tracking.outbox.drain()
    home.client.delete_tag(home.tracking.parent_run_id, "tlm.process")
    home.die()
    shutil.rmtree(home.runtime.mlflow_folder / "processes")
    assert tracked(home)[2:] == (1, 2)
    assert home.client.get_run(made.mlflow["run_id"]).info.status == "FINISHED"
    assert not home.runs("status = 'RUNNING'")


def test_a_damaged_artifact_is_left_out_by_name(studies: Home, database: Path, tmp_path: Path) -> None:
    from tasks.tracking.rebuilding import track

    other = lost(studies, database, tmp_path / "other")
    record = next(record for record in other.store.records() if record.stage == "corpus")
    other.store.local_path(record, "model.safetensors").unlink()
    done = track(other.runtime)
    assert done.left_out == {str(record.ref): "model.safetensors is missing"} and done.made == 5


def test_an_artifact_whose_curves_cannot_be_read_is_named_and_the_others_are_logged(
    studies: Home, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.tracking import runs
    from tasks.tracking.rebuilding import track

    other = lost(studies, database, tmp_path / "other")
    read = runs.log_files

    def bad(client: Any, run: Any, artifact: Any) -> None:
        if artifact.record.stage == "corpus":
            raise ValueError("Parquet magic bytes not found")
        read(client, run, artifact)

    monkeypatch.setattr(runs, "log_files", bad)
    [name] = [str(record.ref) for record in other.store.records() if record.stage == "corpus"]
    for made in (5, 0):
        done = track(other.runtime)
        assert (done.made, done.left_out) == (made, {name: "Parquet magic bytes not found"})
    monkeypatch.undo()
    assert track(other.runtime).settled.completed == 1


def test_an_empty_store_is_no_error(home: Home) -> None:
    shutil.rmtree(home.store.root)
    assert tracked(home) == (0, 0, 0, 0)


def test_the_command_says_what_it_did(
    studies: Home, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tlm: Tlm = command_line(monkeypatch, capsys)
    other = lost(studies, database, tmp_path / "other")
    said = tlm("track", "--home", other.runtime.home)
    assert said.code == 0 and "6 artifacts logged from their records, 0 were there." in said.out
    assert str(other.runtime.mlflow_folder / "mlflow.db") in said.out.replace("\n", "")
    assert "Examples:" in tlm("track", "--help").out
