"""MLflow's registered models of a study: of each task the best single model and the best committee, both by dev accuracy.

They stand for artifacts of the store, and hold no weights of their own: `tasks.tracking.served` loads them from there.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tasks.tracking.view import View
from tlm.artifacts.dry_runs import is_of_dry_run
from tlm.artifacts.record import Record
from tlm.inference.resolve import SINGLE
from tlm.study.base import slugify

CODE = Path(__file__).with_name("served.py")


def register_models(view: View, run_id: str, report: Record, artifacts: str) -> list[str]:
    """Register the models of a report's study, unless they are, and return the names of all of them.

    Models whose weights are not here are left out. Of a dry run there are none: nobody is to serve what was hardly trained.

    Args:
        run_id: of the study's run.
        artifacts: where the store is (`Runtime.artifacts`).
    """
    if is_of_dry_run(report):
        return []
    names = []
    for task, kind, record in chosen(view.inputs(report).values()):
        name = f"{slugify(str(report.labels['study']))}.{slugify(task)}.{kind}"
        _register(view.client, name, run_id, {"artifact": str(record.ref), "artifacts": artifacts})
        names.append(name)
    return names


def chosen(records: Iterable[Record]) -> Iterator[tuple[str, str, Record]]:
    """(task, single or committee, record) of the best of each by dev accuracy; a committee's is the mean of its members'.

    Test accuracies are not looked at. Of equal ones it is the first by slug.
    """
    known = sorted(records, key=lambda record: (record.slug, record.key))
    dev = {
        record.key: float(record.facts["dev_accuracy"])
        for record in known
        if record.stage in SINGLE and "dev_accuracy" in record.facts and not record.left_behind
    }
    for record in known:
        keys = record.input_keys.values()
        if record.stage == "committee" and all(key in dev for key in keys):
            dev[record.key] = fmean(dev[key] for key in keys)
    tasks = dict.fromkeys(str(record.labels["task"]) for record in known if record.key in dev)
    for task in tasks:
        own = [record for record in known if record.key in dev and record.labels["task"] == task]
        for kind, stages in (("single", SINGLE), ("committee", ("committee",))):
            if of_kind := [record for record in own if record.stage in stages]:
                yield task, kind, max(of_kind, key=lambda record: dev[record.key])


def _register(client: MlflowClient, name: str, run_id: str, tags: dict[str, str]) -> None:
    """Add a version, unless there is one with these tags: of this artifact in this store."""
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        there = client.search_model_versions(f"name = '{name}'")
        if any(tags.items() <= each.tags.items() for each in there):
            return
    experiment_id = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(
        experiment_id, name=name.replace(".", "-"), source_run_id=run_id, tags=tags, model_type="tlm-served"
    )
    with tempfile.TemporaryDirectory() as folder:
        _save(Path(folder) / "model", {"artifacts": tags["artifacts"], "models": [tags["artifact"]]})
        client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
    client.finalize_logged_model(model.model_id, "READY")
    client.create_model_version(name, model.artifact_location, run_id, tags=tags, model_id=model.model_id)


def _save(folder: Path, config: dict[str, Any]) -> None:
    from mlflow import pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, DataType, Map, Schema, TensorSpec

    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "label"),
        ColSpec(DataType.double, "probability"),
        ColSpec(Map(DataType.double), "probabilities"),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for an example beside the signature
        pyfunc.save_model(
            folder,
            python_model=str(CODE),
            model_config=config,
            signature=ModelSignature(Schema([ColSpec(DataType.string, "text")]), Schema(outputs)),
            pip_requirements=[f"{package}=={version(package)}" for package in ("mlflow", "tlm")],
        )
