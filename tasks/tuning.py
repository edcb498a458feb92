"""A search's trials as Prefect's tasks and MLflow's runs.

The runs have an experiment of their own: each trial is a run below the search's, the steps made for it are runs below that.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from prefect.futures import PrefectFuture

from tasks.scheduling import run_all
from tasks.stages import task_of
from tasks.study_run import cancel_study
from tasks.tracking import Tracking, prepare
from tlm.artifacts.provenance import code_version
from tlm.artifacts.step import ArtifactRef, Step
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.execution.process import StageFailed, is_cancellation
from tlm.machine.interruption import closing
from tlm.machine.runtime import Runtime
from tlm.tuning.objective import Score
from tlm.tuning.result import RESULT, TRIALS, TrialResult, TuningResult
from tlm.tuning.search import Search, Trial
from tlm.tuning.space import as_text

EXPERIMENT = "tlm-tuning"
RUN = "mlflow_run"
"""The attribute of Optuna's study and trials that names their run."""
ENDED = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
LIMIT = 5_000
"""Characters of a tag."""


class StepMaker:
    """Makes what the store does not hold whole: a `tlm.tuning.tune.Make`.

    Args:
        trackings: trial → where the runs of its steps go; it may still grow.
    """

    def __init__(self, runtime: Runtime, trackings: Mapping[int, Tracking]) -> None:
        self.runtime = runtime
        self.trackings = trackings
        self._store = ArtifactStore(runtime.artifacts)
        self._whole: set[str] = set()
        """Keys whose artifacts have been verified, or made."""

    def __call__(self, todo: Mapping[int, Sequence[Step]]) -> dict[str, str]:
        """Raises what is no fault of a trial's (a full disk, say)."""
        trial_of = {step.key: number for number, steps in todo.items() for step in steps}
        steps = [step for each in todo.values() for step in each if not self._is_whole(step)]
        futures: dict[str, PrefectFuture[Any]] = {}
        failed: dict[str, str] = {}

        def submit(step: Step, inputs: Sequence[PrefectFuture[Any]]) -> PrefectFuture[ArtifactRef]:
            task, tracking = task_of(step.stage).with_options(refresh_cache=True), self.trackings[trial_of[step.key]]
            futures[step.key] = task.submit(step, self.runtime, tracking, wait_for=list(inputs))
            return futures[step.key]

        while steps:
            try:
                run_all(steps, submit, at_once=self.runtime.workers)
            except (UserError, StageFailed):
                found = _failures(futures)
                if found.keys() <= failed.keys():  # no task's failure
                    raise
                failed |= found
            for step in steps:
                if lost := next((key for key in step.input_keys.values() if key in failed), None):
                    failed.setdefault(step.key, failed[lost])
            steps = [step for step in steps if step.key not in failed and step.key not in futures]
        self._whole |= futures.keys() - failed.keys()
        return failed

    def _is_whole(self, step: Step) -> bool:
        if step.key not in self._whole and self._store.inspect(step.ref).status == "complete":
            self._whole.add(step.key)
        return step.key in self._whole


def _failures(futures: Mapping[str, PrefectFuture[Any]]) -> dict[str, str]:
    """Step key → why its task failed. Raises what is no fault of a trial's."""
    failed = {}
    for key, future in futures.items():
        if not future.state.is_completed():
            try:
                future.result(raise_on_failure=True)
            except (UserError, StageFailed) as error:
                if is_cancellation(error):
                    raise
                failed[key] = f"{error}".partition("\n")[0]
    return failed


class TuningRuns:
    """MLflow's runs of a search; a `tlm.tuning.tune.Watcher`. What was begun by a process that died goes on in its run."""

    def __init__(self, runtime: Runtime, search: Search, key: str) -> None:
        uri = prepare(runtime)
        self.search = search
        self.client = MlflowClient(tracking_uri=uri)
        location = None if runtime.tracking_uri else (runtime.mlflow_folder / EXPERIMENT).resolve().as_uri()
        self.tracking = Tracking(uri=uri, experiment_id=self._experiment(location), parent_run_id="")
        config = search.config
        tags = {"tuning": config.name, "tuning_key": key, **_commit()}
        self.run_id = self._run(search.optuna.user_attrs.get(RUN), config.name, tags)
        search.optuna.set_user_attr(RUN, self.run_id)
        self.trackings: dict[int, Tracking] = {}
        self._open: set[str] = set()
        """Runs of trials that have not ended."""
        self.client.log_dict(self.run_id, config.model_dump(mode="json"), "tuning.json")

    def begins(self, trial: Trial) -> None:
        tags = {"mlflow.parentRunId": self.run_id, "trial": str(trial.number), **_commit()}
        run_id = self._run(trial.handle.user_attrs.get(RUN), f"{self.search.config.name} {trial.number}", tags)
        trial.handle.set_user_attr(RUN, run_id)
        self._open.add(run_id)
        params = [Param(field, as_text(value)[:LIMIT]) for field, value in trial.values.items()]
        self.client.log_batch(run_id, params=params)
        self.trackings[trial.number] = self.tracking.model_copy(update={"parent_run_id": run_id})

    def reports(self, trial: Trial, rung: int, rungs: int, score: Score) -> None:
        self.client.log_metric(self._run_of(trial), "dev_accuracy", score.value, step=rung)

    def ends(self, trial: Trial, state: str, score: Score | None, notes: Mapping[str, Any]) -> None:
        run_id = self._run_of(trial)
        numbers = {"seconds": notes["seconds"], **{_metric_name(c): value for c, value in notes["cells"].items()}}
        self.client.log_batch(run_id, metrics=_metrics(numbers))
        self.client.set_tag(run_id, "state", state)
        self.client.set_tag(run_id, "finetuned", " ".join(notes["finetuned"])[:LIMIT])
        if notes["reason"]:
            self.client.set_tag(run_id, "tlm.error", notes["reason"][:LIMIT])
        self.client.set_terminated(run_id, ENDED[state])
        self._open.discard(run_id)

    def close(self, result: TuningResult, status: str) -> None:
        """End the search's run, and those of trials that have not ended, with what came of it: the best trial,
        importances, all trials."""
        numbers = {f"importance.{field}": share for field, share in result.importances.items()}
        numbers |= {"trials": len(result.trials)}
        if result.best is not None and result.best.value is not None:
            numbers |= {"dev_accuracy": result.best.value, "best_trial": result.best.number}
            for override in result.best.overrides:
                field, _, value = override.partition("=")
                self.client.set_tag(self.run_id, f"best.{field}", value[:LIMIT])
        self.client.log_batch(self.run_id, metrics=_metrics(numbers))
        self.client.set_tag(self.run_id, "mlflow.note.content", _note(result)[:LIMIT])
        with tempfile.TemporaryDirectory() as folder:
            for name in (RESULT, TRIALS):
                result.write(Path(folder) / name)
            self.client.log_artifacts(self.run_id, folder)
        for run_id in self._open:
            cancel_study(self.tracking.model_copy(update={"parent_run_id": run_id}))
        self.client.set_terminated(self.run_id, status)

    def _run_of(self, trial: Trial) -> str:
        return self.trackings[trial.number].parent_run_id

    def _experiment(self, location: str | None) -> str:
        found = self.client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(self.client.create_experiment(EXPERIMENT, artifact_location=location))
        except MlflowException:  # another process was faster
            found = self.client.get_experiment_by_name(EXPERIMENT)
            if found is None:
                raise
            return str(found.experiment_id)

    def _run(self, known: str | None, name: str, tags: dict[str, str]) -> str:
        """The run with a known id, open again; a new one if there is none."""
        if known is not None:
            try:
                self.client.update_run(known, status="RUNNING")
                return known
            except MlflowException:  # MLflow's database was removed
                pass
        return str(self.client.create_run(self.tracking.experiment_id, run_name=name, tags=tags).info.run_id)


@contextmanager
def tuning_runs(runtime: Runtime, search: Search, key: str, result: Callable[[], TuningResult]) -> Iterator[TuningRuns]:
    """The runs of a search, which end with the block: FINISHED, FAILED, or KILLED if it was interrupted.

    What goes wrong in ending them never stands in for the reason why the search failed.
    """
    runs = TuningRuns(runtime, search, key)
    with closing(lambda: runs.close(result(), "KILLED")):
        try:
            yield runs
        except BaseException as error:
            with suppress(Exception):
                runs.close(result(), "KILLED" if is_cancellation(error) else "FAILED")
            raise
        runs.close(result(), "FINISHED")


def _commit() -> dict[str, str]:
    commit = code_version()["git_commit"]
    return {"mlflow.source.git.commit": commit} if commit else {}


def _metrics(numbers: Mapping[str, float]) -> list[Metric]:
    now = int(time.time() * 1000)
    return [Metric(name, float(value), now, 0) for name, value in numbers.items()]


def _metric_name(cell: str) -> str:
    return f"dev_accuracy.{cell.replace('=', ' ')}"


def _note(result: TuningResult) -> str:
    """The best trials and the importances, in Markdown."""
    lines = ["| trial | dev accuracy | overrides |", "|---|---|---|"]
    lines += [f"| {trial.number} | {_percent(trial)} | `{' '.join(trial.overrides)}` |" for trial in result.ranked[:10]]
    lines += ["", "| field | importance |", "|---|---|"]
    lines += [f"| `{field}` | {share:.2f} |" for field, share in result.importances.items()]
    return "\n".join(lines)


def _percent(trial: TrialResult) -> str:
    spread = f" ± {100 * trial.standard_error:.1f}" if trial.standard_error is not None else ""
    return f"{100 * (trial.value or 0):.1f}{spread}"
