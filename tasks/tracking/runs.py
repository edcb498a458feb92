"""What MLflow holds of a step, as calls to its client: all of it follows from the step, or from its artifact's record.

Every call may be made again: what is there already is left or overwritten with the same. Metrics bear the time at which the
record was written, not the time at which they happened to be logged; what a curve had while its model was trained bears the
time at which it had it.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS

from tasks.logged_files import is_logged
from tasks.tracking.described import Described, labels_of, numbers_of, params_of, run_name
from tasks.tracking.recorded import finished
from tlm.artifacts.dry_runs import dry_run_label
from tlm.artifacts.fingerprint import canonical_json
from tlm.artifacts.record import Record, device_of
from tlm.artifacts.store import Artifact

if TYPE_CHECKING:
    from tlm.training.optimisation import Point

BATCH = 1_000
"""The most parameters, tags and metrics that MLflow takes in one call; a call costs the same for one."""
CURVES = "metrics.parquet"
TAG_LIMIT, PARAM_LIMIT, DIGEST_LIMIT = 8_000, 6_000, 36
MOST_INPUTS = 40
"""Inputs that are logged as datasets and by the runs that made them; all of them are in record.json."""
MODEL_FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
"""From which transformers loads a model and its tokenizer."""


def create(
    client: MlflowClient,
    experiment_id: str,
    parent: str,
    made: Described,
    provenance: Mapping[str, Any],
    more: Mapping[str, str],
    *,
    start: int | None = None,
) -> Run:
    """Open a step's run.

    Args:
        parent: the id of the run it belongs to.
        provenance: of the code that makes, or made, the artifact.
        more: further tags.
        start: when it began, in milliseconds since 1970 (None: now).
    """
    tags = {
        "mlflow.parentRunId": parent,
        "stage": made.stage,
        "step_key": made.key,
        "stage_version": made.version,
        **{name: str(value) for name, value in labels_of(made).items() if value is not None},
        **commit_tags(provenance),
        **more,
    }
    seed = made.labels.get("finetune_seed", made.labels.get("pretrain_seed", made.labels.get("corpus_seed")))
    if seed is not None:
        tags["seed"] = str(seed)
    tags = {name: value[:TAG_LIMIT] for name, value in tags.items()}
    return client.create_run(experiment_id, start_time=start, run_name=run_name(made), tags=tags)


@dataclass(frozen=True)
class Content:
    """What a run is told of a step beside its files: all of it in one call, of which MLflow takes many kinds at once."""

    params: tuple[Param, ...] = ()
    tags: tuple[RunTag, ...] = ()
    metrics: tuple[Metric, ...] = ()
    datasets: tuple[DatasetInput, ...] = ()

    def __add__(self, other: Content) -> Content:
        return Content(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


def identity(made: Described, inputs: Mapping[str, Record], makers: Mapping[str, str]) -> Content:
    """Parameters, input keys, and each input as a dataset with the digest of its content.

    Args:
        makers: for each input the id of the run that made it, where there is one.
    """
    input_keys = canonical_json(dict(made.input_keys))
    tags = [RunTag("input_keys", input_keys)] if len(input_keys) <= TAG_LIMIT else []
    if len(inputs) <= MOST_INPUTS:
        tags += [RunTag(f"input_run.{name}", run) for name, run in makers.items()]
    params = [Param(name, value[:PARAM_LIMIT]) for name, value in params_of(made).items()][:100]
    datasets = [_dataset(name, record) for name, record in list(inputs.items())[:MOST_INPUTS]]
    return Content(params=tuple(params), tags=tuple(tags), datasets=tuple(datasets))


def results(artifact: Artifact, client: MlflowClient, run: Run) -> Content:
    """Numbers and curves as metrics; a model that is here without weights is said to be, by a tag.

    What the run has of a curve since it was made is left as it is, with the times at which it was.
    """
    record, at = artifact.record, finished(artifact.record)
    metrics = [Metric(name, value, at, 0) for name, value in numbers_of(record).items()]
    if CURVES in record.outputs:
        curves = pd.read_parquet(artifact.path(CURVES))
        columns = [curves[name].tolist() for name in ("name", "value", "step")]
        known = _known_points(client, run, set(columns[0]))
        points = zip(*columns, strict=True)
        metrics += [Metric(name, value, at, step) for name, value, step in points if (name, step) not in known]
    without = [RunTag("tlm.weights", f"without weights (made on {device_of(record)})")] if record.left_behind else []
    return Content(metrics=tuple(metrics), tags=tuple(without))


def _known_points(client: MlflowClient, run: Run, names: Collection[str]) -> set[tuple[str, int]]:
    """Metric and step of what a run has of these metrics."""
    own = [name for name in names if name in run.data.metrics]
    return {(name, each.step) for name in own for each in client.get_metric_history(run.info.run_id, name)}


def log_points(client: MlflowClient, run_id: str, points: Sequence[Point], at: int) -> None:
    """Log a part of a curve as of a time, in milliseconds since 1970."""
    metrics = [Metric(name, value, at, step) for step, name, value in points]
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + BATCH])


def log_content(client: MlflowClient, run_id: str, content: Content) -> None:
    """In one call, but for the metrics that are more than MLflow takes in one, and datasets."""
    room = BATCH - len(content.params) - len(content.tags)
    client.log_batch(run_id, params=content.params, tags=content.tags, metrics=content.metrics[:room])
    for start in range(room, len(content.metrics), BATCH):
        client.log_batch(run_id, metrics=content.metrics[start : start + BATCH])
    if content.datasets:
        _log_datasets(client, run_id, list(content.datasets))


def log_metrics(client: MlflowClient, run_id: str, numbers: Mapping[str, float], at: int) -> None:
    """Numbers as metrics of step 0. `at`: milliseconds since 1970."""
    client.log_batch(run_id, metrics=[Metric(name, float(value), at, 0) for name, value in numbers.items()])


def log_files(client: MlflowClient, run: Run, artifact: Artifact) -> None:
    """The record of what the step made, its files, the model."""
    record = artifact.record
    # By its client's own methods MLflow would be asked for the run once more, to learn where its files lie.
    place: Any = get_artifact_repository(run.info.artifact_uri, tracking_uri=client.tracking_uri)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "record.json").write_text(
            json.dumps(record.model_dump(mode="json"), indent=2), encoding="utf-8"
        )
        for name in record.outputs:
            if is_logged(record, name):
                _link(artifact.path(name), Path(folder) / name)
        place.log_artifacts(folder)
    if "model.safetensors" in record.outputs and not (run.outputs and run.outputs.model_outputs):
        _log_model(client, run, artifact)


def log_table(
    client: MlflowClient, run_id: str, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
) -> None:
    """Log a table (a JSON file) that MLflow's console shows as one; it takes the place of what has the name.

    `MlflowClient.log_table` would add the rows to those that are there.
    """
    client.log_dict(run_id, {"columns": list(columns), "data": [list(row) for row in rows]}, name)
    shown = json.loads(client.get_run(run_id).data.tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
    if (table := {"path": name, "type": "table"}) not in shown:
        client.set_tag(run_id, MLFLOW_LOGGED_ARTIFACTS, json.dumps([*shown, table]))


def finish(client: MlflowClient, run: Run, record: Record) -> None:
    """End the run as finished, when its artifact was."""
    client.set_terminated(run.info.run_id, "FINISHED", end_time=max(finished(record), run.info.start_time))


def now() -> int:
    """In milliseconds since 1970."""
    return int(time.time() * 1000)


def dry_run_tag(is_dry_run: bool) -> dict[str, str]:
    """As a step's run has it from the label of its step: there only if it is true."""
    return {name: str(value) for name, value in dry_run_label(is_dry_run).items()}


def commit_tags(provenance: Mapping[str, Any]) -> dict[str, str]:
    commit = provenance.get("git_commit")
    return {"mlflow.source.git.commit": commit, "git_dirty": str(provenance.get("git_dirty"))} if commit else {}


def search(client: MlflowClient, experiments: list[str], query: str) -> Iterator[Run]:
    """Every run of these experiments that a filter of MLflow's finds, the newest first, deleted ones left out."""
    token: str | None = None
    while True:
        page = client.search_runs(experiments, query, max_results=BATCH, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _log_datasets(client: MlflowClient, run_id: str, datasets: list[DatasetInput]) -> None:
    """MLflow looks for a dataset and then inserts it; of two runs that do so at once one fails, and may try again."""
    for attempt in range(5):
        try:
            client.log_inputs(run_id, datasets)
            return
        except MlflowException as error:
            if attempt == 4 or not re.search("unique|duplicate", str(error), re.IGNORECASE):
                raise
            time.sleep(0.2 * (attempt + 1))


def _log_model(client: MlflowClient, run: Run, artifact: Artifact) -> None:
    record, info = artifact.record, run.info
    begun = client.search_logged_models([info.experiment_id], filter_string=f"source_run_id = '{info.run_id}'")
    model = (
        begun[0]
        if begun
        else client.create_logged_model(
            info.experiment_id,
            name=f"{record.slug}-{record.stage}".replace(".", "-"),
            source_run_id=info.run_id,
            tags={"step_key": record.key, "sha256": record.outputs["model.safetensors"].sha256},
            params={name: str(value) for name, value in labels_of(record).items() if value is not None},
            model_type="tlm",
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        for name in record.outputs.keys() & MODEL_FILES:
            _link(artifact.path(name), Path(folder) / name)
        client.log_model_artifacts(model.model_id, folder)
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(info.run_id, [LoggedModelOutput(model.model_id, 0)])


def _link(file: Path, at: Path) -> None:
    at.parent.mkdir(parents=True, exist_ok=True)
    at.symlink_to(file.resolve())


def _dataset(name: str, record: Record) -> DatasetInput:
    digests = {file: output.sha256 for file, output in sorted(record.outputs.items())}
    content = hashlib.sha256(canonical_json(digests).encode()).hexdigest()
    source = {"artifact": str(record.ref), "step_key": record.key, "sha256": digests}
    return DatasetInput(
        Dataset(f"{record.stage}/{record.slug}", content[:DIGEST_LIMIT], "tlm", json.dumps(source)),
        [InputTag("mlflow.data.context", name)],
    )
