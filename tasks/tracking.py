"""MLflow: a parent run for each study, a child for each step, metrics, dataset inputs with digests, logged models.

Records decide what is cached; MLflow is a view of them. Every call names its run id, because MLflow's notion of an active
run belongs to one thread.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from pydantic import BaseModel, ConfigDict

from tasks.logged_files import is_logged
from tlm.artifacts.fingerprint import canonical_json
from tlm.artifacts.provenance import code_version
from tlm.artifacts.record import Record
from tlm.artifacts.step import Step
from tlm.artifacts.store import Artifact, ArtifactStore
from tlm.execution.execute import Outcome, Progress, execute
from tlm.execution.process import is_cancellation
from tlm.machine import interruption
from tlm.machine.runtime import Runtime

EXPERIMENT = "tlm"
BATCH = 1_000
"""Most metrics that MLflow takes in one call; a call costs the same for one."""
TAG_LIMIT, PARAM_LIMIT, DIGEST_LIMIT = 8_000, 6_000, 36
MODEL_FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
"""From which transformers loads a model and its tokenizer."""

REHOME = (
    """update experiments set artifact_location = :new || substr(artifact_location, length(:old) + 1)
       where substr(artifact_location, 1, length(:old)) = :old""",
    """update runs set artifact_uri = :new || substr(artifact_uri, length(:old) + 1)
       where substr(artifact_uri, 1, length(:old)) = :old""",
    """update logged_models set artifact_location = :new || substr(artifact_location, length(:old) + 1)
       where substr(artifact_location, 1, length(:old)) = :old""",
)

_datasets_lock = threading.Lock()


class Tracking(BaseModel):
    """Where a study's runs go: small, so that tasks on other machines can be told."""

    model_config = ConfigDict(frozen=True)

    uri: str
    experiment_id: str
    parent_run_id: str


def open_study(runtime: Runtime, name: str, study: Mapping[str, Any], provenance: Mapping[str, Any]) -> Tracking:
    """Create the study's parent run (and the database and experiment, the first time)."""
    uri = prepare(runtime)
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    tags = {"study": name, **_commit_tags(provenance)}
    run = client.create_run(experiment.experiment_id, run_name=name, tags=tags)
    client.log_dict(run.info.run_id, dict(study), "study.json")
    return Tracking(uri=uri, experiment_id=experiment.experiment_id, parent_run_id=run.info.run_id)


def close_study(
    tracking: Tracking, *, failed: bool, files: Sequence[Path], numbers: Mapping[str, float], note: str = ""
) -> None:
    """End the parent run with files and numbers.

    Args:
        tracking: of the study.
        failed: whether a step failed.
        files: to log; each is copied.
        numbers: to log as metrics.
        note: Markdown that MLflow's UI shows as the run's description.
    """
    client = MlflowClient(tracking_uri=tracking.uri)
    for path in files:
        client.log_artifact(tracking.parent_run_id, str(path), "markdown" if path.suffix == ".md" else None)
    if note:
        client.set_tag(tracking.parent_run_id, "mlflow.note.content", note[:TAG_LIMIT])
    client.log_batch(tracking.parent_run_id, metrics=_metrics(numbers))
    client.set_terminated(tracking.parent_run_id, "FAILED" if failed else "FINISHED")


def prepare(runtime: Runtime) -> str:
    """Return the tracking URI with its database initialised and its experiment there.

    The first use of a SQLite database creates its tables, and processes that do so at once fail: one at a time here.
    """
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    folder = runtime.mlflow_folder
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".first-use.lock"):
        if runtime.tracking_uri:
            uri, location = runtime.tracking_uri, None
        else:
            _rehome(folder)
            uri, location = f"sqlite:///{folder.resolve() / 'mlflow.db'}", (folder / "artifacts").resolve().as_uri()
        client = MlflowClient(tracking_uri=uri)
        if client.get_experiment_by_name(EXPERIMENT) is None:
            client.create_experiment(EXPERIMENT, artifact_location=location)
    return uri


def _rehome(folder: Path) -> None:
    """MLflow stores absolute artifact locations. If the project folder was moved, move them along."""
    database = folder / "mlflow.db"
    if not database.exists():
        return
    here = (folder / "artifacts").resolve().as_uri()
    with closing(sqlite3.connect(database)) as connection, connection:
        found = connection.execute("select artifact_location from experiments where name = ?", (EXPERIMENT,)).fetchone()
        if found is None or found[0] == here or not str(found[0]).startswith("file:"):
            return
        for statement in REHOME:
            connection.execute(statement, {"new": here, "old": found[0]})


class StepRun:
    """One step's child run."""

    def __init__(self, tracking: Tracking, step: Step) -> None:
        self.tracking = tracking
        self.step = step
        self.client = MlflowClient(tracking_uri=tracking.uri)
        self.run_id = ""

    def start(self, inputs: Mapping[str, Record], reason: str = "") -> dict[str, str]:
        """Open the run; return what the record keeps of it."""
        more = {"tlm.rebuilt_because": reason} if reason else {}
        return self._create(inputs, {"tlm.cache": "miss", **more})

    def start_import(self, inputs: Mapping[str, Record], made: Record, origin: str) -> dict[str, str]:
        """Open the run of an artifact that was made elsewhere and came in the folder `origin`; as `start`."""
        more = {"tlm.imported_from": origin, "device": str(made.provenance.get("device"))}
        return self._create(inputs, {"tlm.cache": "miss", **more}, made)

    def finish(self, artifact: Artifact) -> None:
        """Log what the step made and end the run."""
        record = artifact.record
        self._log_numbers(record)
        self.client.log_dict(self.run_id, record.model_dump(mode="json"), "record.json")
        for name in record.outputs:
            if name == "metrics.parquet":
                self._log_curves(pd.read_parquet(artifact.path(name)))
            if is_logged(record, name):
                folder = str(Path(name).parent)
                self.client.log_artifact(self.run_id, str(artifact.path(name)), None if folder == "." else folder)
        if "model.safetensors" in record.outputs:
            self._log_model(artifact)
        self.client.set_terminated(self.run_id, "FINISHED")

    def fail(self, error: BaseException) -> None:
        """End the run, as killed if the error is a cancellation. What MLflow makes of it does not hide the error."""
        if not self.run_id:
            return
        with suppress(Exception):
            if is_cancellation(error):
                self.client.set_terminated(self.run_id, "KILLED")
            else:
                self.client.set_tag(self.run_id, "tlm.error", f"{type(error).__name__}: {error}"[:TAG_LIMIT])
                self.client.set_terminated(self.run_id, "FAILED")

    def cached(self, record: Record, inputs: Mapping[str, Record]) -> None:
        """Log a cache hit: the same tags and numbers, and a link to the run that made the artifact."""
        maker = (record.mlflow or {}).get("run_id", "not tracked")
        self._create(inputs, {"tlm.cache": "hit", "tlm.made_by_run": maker}, record)
        self._log_numbers(record)
        self.client.set_terminated(self.run_id, "FINISHED")

    def _create(
        self, inputs: Mapping[str, Record], more: Mapping[str, str], made: Record | None = None
    ) -> dict[str, str]:
        interruption.hold()
        step = self.step
        tags = {
            "mlflow.parentRunId": self.tracking.parent_run_id,
            "stage": step.stage,
            "step_key": step.key,
            "stage_version": step.version,
            **{name: str(value) for name, value in step.labels.items() if value is not None},
            **_commit_tags(made.provenance if made else code_version()),
            **more,
        }
        seed = step.labels.get("finetune_seed", step.labels.get("pretrain_seed", step.labels.get("corpus_seed")))
        if seed is not None:
            tags["seed"] = str(seed)
        tags = {name: value[:TAG_LIMIT] for name, value in tags.items()}
        run = self.client.create_run(self.tracking.experiment_id, run_name=f"{step.stage}/{step.slug}", tags=tags)
        self.run_id = run.info.run_id
        self._log_identity(inputs)
        return {"run_id": self.run_id, "experiment_id": self.tracking.experiment_id}

    def _log_identity(self, inputs: Mapping[str, Record]) -> None:
        """Parameters, input keys, and each input as a dataset with the digest of its content."""
        input_keys = canonical_json(dict(self.step.input_keys))
        tags = [RunTag("input_keys", input_keys)] if len(input_keys) <= TAG_LIMIT else []
        if len(inputs) <= 40:
            tags += [
                RunTag(f"input_run.{name}", record.mlflow["run_id"]) for name, record in inputs.items() if record.mlflow
            ]
        params = [Param(name, value[:PARAM_LIMIT]) for name, value in _flat(self.step.config)][:100]
        self.client.log_batch(self.run_id, params=params, tags=tags)
        datasets = [_dataset(name, record) for name, record in list(inputs.items())[:40]]
        if datasets:
            self._log_datasets(datasets)

    def _log_datasets(self, datasets: list[DatasetInput]) -> None:
        """MLflow looks for a dataset and then inserts it; of two runs that do so at once one fails, and may try again."""
        with _datasets_lock:
            for attempt in range(5):
                try:
                    self.client.log_inputs(self.run_id, datasets)
                    return
                except MlflowException:
                    if attempt == 4:
                        raise
                    time.sleep(0.2 * (attempt + 1))

    def _log_numbers(self, record: Record) -> None:
        numbers = {"seconds": record.seconds, **dict(_numbers(record.facts))}
        self.client.log_batch(self.run_id, metrics=_metrics(numbers))

    def _log_curves(self, curves: pd.DataFrame) -> None:
        now = int(time.time() * 1000)
        columns = [curves[name].tolist() for name in ("name", "value", "step")]
        metrics = [Metric(name, value, now, step) for name, value, step in zip(*columns, strict=True)]
        for start in range(0, len(metrics), BATCH):
            self.client.log_batch(self.run_id, metrics=metrics[start : start + BATCH])

    def _log_model(self, artifact: Artifact) -> None:
        record = artifact.record
        model = self.client.create_logged_model(
            self.tracking.experiment_id,
            name=f"{record.stage}-{record.slug}".replace(".", "-"),
            source_run_id=self.run_id,
            tags={"step_key": record.key, "sha256": record.outputs["model.safetensors"].sha256},
            params={name: str(value) for name, value in record.labels.items() if value is not None},
            model_type="tlm",
        )
        with tempfile.TemporaryDirectory() as folder:
            for name in record.outputs.keys() & MODEL_FILES:
                os.symlink(artifact.path(name).resolve(), Path(folder) / name)
            self.client.log_model_artifacts(model.model_id, folder)
        self.client.finalize_logged_model(model.model_id, "READY")
        self.client.log_outputs(self.run_id, [LoggedModelOutput(model.model_id, 0)])


def execute_tracked(
    step: Step, runtime: Runtime, tracking: Tracking, *, progress: Progress | None = None, hit_logged: bool = False
) -> Outcome:
    """`tlm.execution.execute.execute`, with a child run: of what was made, or of the hit, unless that is logged already.

    What another run has made while this one waited for it is a hit. Raises what `execute` raises.
    """
    store = ArtifactStore(runtime.artifacts)
    run = StepRun(tracking, step)
    try:
        outcome = execute(
            step, runtime, progress=progress, before_work=lambda reason: run.start(input_records(store, step), reason)
        )
        if outcome.status == "executed":
            run.finish(store.get(step.ref))
        elif not hit_logged:
            run.cached(outcome.record, input_records(store, step))
    except BaseException as error:
        run.fail(error)
        raise
    return outcome


def input_records(store: ArtifactStore, step: Step) -> dict[str, Record]:
    """The records of a step's inputs, which must be complete."""
    return {name: store.get(ref).record for name, ref in step.inputs.items()}


def _dataset(name: str, record: Record) -> DatasetInput:
    digests = {file: output.sha256 for file, output in sorted(record.outputs.items())}
    content = hashlib.sha256(canonical_json(digests).encode()).hexdigest()
    source = {"artifact": str(record.ref), "step_key": record.key, "sha256": digests}
    return DatasetInput(
        Dataset(f"{record.stage}/{record.slug}", content[:DIGEST_LIMIT], "tlm", json.dumps(source)),
        [InputTag("mlflow.data.context", name)],
    )


def _commit_tags(provenance: Mapping[str, Any]) -> dict[str, str]:
    commit = provenance.get("git_commit")
    return {"mlflow.source.git.commit": commit, "git_dirty": str(provenance.get("git_dirty"))} if commit else {}


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _flat(item, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix, value if isinstance(value, str) else json.dumps(value)


def _metrics(numbers: Mapping[str, float]) -> list[Metric]:
    now = int(time.time() * 1000)
    return [Metric(name, float(value), now, 0) for name, value in numbers.items()]


def _numbers(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)
