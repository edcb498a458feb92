"""A home in which studies are run without work, to see what MLflow shows of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from tlm.artifacts.provenance import code_version
from tlm.artifacts.record import Record
from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.machine.runtime import Runtime


class Home:
    """A home in which steps are made without work, each with numbers, curves and a model, in a run of a study."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.store = ArtifactStore(runtime.artifacts)
        self.tracking: Any = None

    def open(self, name: str = "mini", **options: Any) -> None:
        from tasks.tracking.study import open_study

        content = options.pop("content", {"name": name})
        self.tracking = open_study(self.runtime, name, content, code_version(), **options)

    def run_of(self, step: Step) -> Any:
        from tasks.tracking.step_run import StepRun

        return StepRun(self.tracking, step, self.runtime)

    def publish(self, step: Step, mlflow: dict[str, str] | None) -> Record:
        with self.store.lock(step.ref), self.store.draft(step.ref) as draft:
            write_report(draft, step) if step.stage == "report" else write_model(draft)
            facts = {"test_accuracy": 0.5, "sizes": {"train": 7}}
            return self.store.publish(step, draft, facts=facts, provenance=code_version(), seconds=1.5, mlflow=mlflow)

    def make(self, step: Step) -> Record:
        run = self.run_of(step)
        record = self.publish(step, run.start())
        run.finish(record)
        return record

    def close(
        self, status: str = "FINISHED", report: Step | None = None, hits: Sequence[Step] = (), **numbers: float
    ) -> None:
        from tasks.tracking.ending import Ending
        from tasks.tracking.study import close_study

        found = tuple(step.ref for step in hits)
        numbers = numbers or {"steps": 1}
        ending = Ending(status=status, numbers=numbers, report=report.ref if report else None, hits=found)
        close_study(self.tracking, self.runtime, ending)

    def die(self) -> None:
        """As kill -9 does: nothing is told to MLflow any more, and the kernel releases the lock."""
        from tasks.tracking import processes, study

        self.tracking.outbox._jobs.clear()
        study._outboxes.pop(self.tracking.process)
        processes.release(processes.folder_of(self.runtime), self.tracking.process)

    @property
    def client(self) -> Any:
        from mlflow import MlflowClient

        from tasks.tracking.connecting import prepare

        return MlflowClient(tracking_uri=prepare(self.runtime))

    def runs(self, query: str = "") -> list[Any]:
        return list(self.client.search_runs(["1"], query))

    def statuses(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for run in self.runs():
            found.setdefault(run.data.tags.get("stage", run.info.run_name), []).append(run.info.status)
        return found

    def hits(self, run: Any) -> dict[str, str]:
        """The table of a study's run: step key → the run that made the artifact. Empty if it has none."""
        tables = json.loads(run.data.tags.get("mlflow.loggedArtifacts", "[]"))
        table = next((each for each in tables if each["path"] == "cached_steps.json"), None)
        if table is None:
            return {}
        with TemporaryDirectory() as folder:
            content = json.loads(
                Path(self.client.download_artifacts(run.info.run_id, table["path"], folder)).read_text()
            )
        rows = [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]
        return {row["step_key"]: row["made_by_run"] for row in rows}

    def maker(self, step: Step) -> Any:
        """The one run that made a step's artifact."""
        [run] = self.runs(f"tags.step_key = '{step.key}' and tags.`tlm.cache` = 'miss' and status = 'FINISHED'")
        return run


class Silent:
    """What an outbox speaks to instead of an MLflow that is no longer there."""

    def __init__(self, outbox: Any) -> None:
        outbox._connect = lambda: self
        outbox._silence = lambda uri: "Connection refused"

    def __getattr__(self, name: str) -> Any:
        def fail(*_: Any, **__: Any) -> Any:
            raise ConnectionError("Connection refused")

        return fail


def write_model(draft: Path) -> None:
    curve = {"name": ["loss"] * 3, "value": [3.0, 2.0, 1.0], "step": [1, 2, 3]}
    pd.DataFrame(curve).to_parquet(draft / "metrics.parquet")
    (draft / "model.safetensors").write_bytes(b"weights")
    (draft / "config.json").write_text("{}")


def write_report(draft: Path, step: Step) -> None:
    verdict = {"claim": "it works", "outcome": "yes", "figure": "1"}
    making = {"artifacts": 1, "seconds": 1.0, "devices": [], "commits": []}
    named = {"study": step.slug, "scale": None, "analysis": None}
    findings = {"format": 1, **named, "verdicts": [verdict], "notes": [], "tables": [], "plots": [], "making": making}
    (draft / "findings.json").write_text(json.dumps(findings))
    (draft / "labels.json").write_text(json.dumps({ref.key: {"task": step.slug} for ref in step.inputs.values()}))
    (draft / "report.html").write_text("<!doctype html>")
    (draft / "report.md").write_text("# Report")
    pd.DataFrame({"task": ["a"]}).to_parquet(draft / "summary.parquet")


def seen(home: Home, step: Step) -> dict[str, Any]:
    """All that MLflow shows of the run that made a step's artifact, but where it belongs."""
    run = home.maker(step)
    history = {
        name: [(m.step, m.value, m.timestamp) for m in home.client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }
    models = [home.client.get_logged_model(model.model_id) for model in run.outputs.model_outputs]
    return {
        "id": run.info.run_id,
        "name": run.info.run_name,
        "params": run.data.params,
        "tags": {n: v for n, v in run.data.tags.items() if n not in ("mlflow.parentRunId", "tlm.from_record")},
        "metrics": history,
        "files": sorted(file.path for file in home.client.list_artifacts(run.info.run_id)),
        "inputs": sorted((d.dataset.name, d.dataset.digest, d.tags[0].value) for d in run.inputs.dataset_inputs),
        "models": [(model.name, str(model.status), model.tags) for model in models],
    }


def complete(home: Home, step: Step) -> None:
    """MLflow shows everything of a step that was made."""
    shown, record = seen(home, step), home.store.get(step.ref).record
    assert [point[:2] for point in shown["metrics"]["loss"]] == [(1, 3.0), (2, 2.0), (3, 1.0)]
    assert {n: p[0][1] for n, p in shown["metrics"].items() if n != "loss"} == {
        "seconds": 1.5,
        "test_accuracy": 0.5,
        "sizes.train": 7.0,
    }
    assert shown["params"] and {"record.json", "metrics.parquet"} <= set(shown["files"])
    assert {name for _, _, name in shown["inputs"]} == set(record.inputs)
    [(_, status, tags)] = shown["models"]
    assert status == "READY" and tags["step_key"] == step.key
