"""The way to MLflow: its own database under TLM_HOME or the server that is asked for, tried before any work."""

from __future__ import annotations

import logging
import os
import sqlite3
from pathlib import Path

import requests
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from tasks.answering import check_tracking, shown
from tasks.tracking import database
from tlm.errors import UserError
from tlm.machine.runtime import Runtime

EXPERIMENT = "tlm"
TUNING = "tlm-tuning"
"""The experiment of searches, their trials, and what is made for these."""
ABOUT = {
    EXPERIMENT: "The runs of all studies. A study's run has its headline table and its verdicts as its description; below "
    "it is a run for each step. Filter by the tag `study`, and compare `test_accuracy` by the parameters `ws`, `arch`, "
    "`task`, `init` and `treatment`.",
    TUNING: "Searches of hyperparameters by dev accuracy: a run for each search, below it one for each trial.",
}
"""Experiment → its description."""
NOTE = "mlflow.note.content"
"""Tag of an experiment or a run that MLflow shows as its description, in Markdown."""
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Tag by which MLflow opens an experiment on its runs, and not on traces of prompts."""
TIMEOUT, RETRIES, BACKOFF = 10, 1, 1
"""Of a request to the server: seconds, how often it is repeated, and seconds before that. MLflow's own add up to a quarter
of an hour."""

FAULTS = (MlflowException, SQLAlchemyError, sqlite3.Error, requests.RequestException, OSError)
"""What MLflow's client raises where MLflow is at fault."""


def set_up(patient: bool = False) -> None:
    """How this process speaks to MLflow: quietly, and with an end to its patience. What the environment says wins.

    Args:
        patient: somebody waits for MLflow and for nothing else.
    """
    for name in ("mlflow", "alembic"):  # what goes wrong is raised, and said once
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(TIMEOUT * (6 if patient else 1)))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(RETRIES))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", str(BACKOFF))


def prepare(runtime: Runtime, *, patient: bool = False) -> str:
    """Return the tracking URI once MLflow answers there and its experiment exists. `patient`: see `set_up`.

    Raises:
        UserError: if it does not, within seconds; for what else see `tasks.tracking.database.ensure`.
    """
    set_up(patient)
    if runtime.tracking_uri:
        check_tracking(runtime.tracking_uri)
    own = runtime.mlflow_folder / "mlflow.db"
    try:
        own.parent.mkdir(parents=True, exist_ok=True)
        uri = runtime.tracking_uri or database.uri_of(own)
        with FileLock(own.parent / ".first-use.lock"):
            artifacts = None
            if file := database.path_of(uri):
                artifacts = file.parent / "artifacts"
                database.ensure(file, artifacts, EXPERIMENT)
                if not runtime.tracking_uri:
                    database.rehome(file, artifacts, EXPERIMENT)
            experiment_id(MlflowClient(tracking_uri=uri), artifacts)
    except FAULTS as error:
        where = shown(runtime.tracking_uri or str(own))
        raise UserError(f"MLflow at {where} cannot be used: {database.first_line(error)}.") from error
    return uri


def experiment_id(client: MlflowClient, artifacts: Path | None = None, *, name: str = EXPERIMENT) -> str:
    """The id of an experiment, which is made, with its files in `artifacts`, if there is none, and described.

    Raises:
        UserError: if it was deleted in MLflow.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        place = artifacts.resolve().as_uri() if artifacts else None
        try:
            return str(client.create_experiment(name, artifact_location=place, tags=_tags(name)))
        except MlflowException:  # another process was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise UserError(
            f"The experiment {name!r} was deleted in MLflow.",
            f"Restore it: `mlflow experiments restore --experiment-id {found.experiment_id}`.",
        )
    for tag in _tags(name).keys() - found.tags.keys():  # what the user has written there stays
        client.set_experiment_tag(found.experiment_id, tag, _tags(name)[tag])
    return str(found.experiment_id)


def _tags(name: str) -> dict[str, str]:
    return {**KIND, NOTE: ABOUT[name]} if name in ABOUT else KIND


def experiments(client: MlflowClient) -> list[str]:
    """The ids of those of our experiments that there are."""
    found = [client.get_experiment_by_name(name) for name in (EXPERIMENT, TUNING)]
    return [str(each.experiment_id) for each in found if each is not None and each.lifecycle_stage == "active"]
