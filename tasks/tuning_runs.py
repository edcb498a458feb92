"""MLflow's runs of a search, in an experiment of their own: a trial is a run below the search's, its steps are below that.

Optuna keeps all that they show, so that they can be completed, or made again, at any time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from pydantic import ValidationError

from tasks.tracking.connecting import TUNING
from tasks.tracking.ending import Ending, Status
from tasks.tracking.runs import commit_tags, log_metrics, now
from tasks.tracking.study import Tracking, close_study, open_or_reopen, open_run
from tasks.tracking.view import PARENT, View
from tlm.artifacts.provenance import code_version
from tlm.errors import UserError
from tlm.execution.process import is_cancellation
from tlm.machine.interruption import closing
from tlm.machine.runtime import Runtime
from tlm.tuning.objective import Score
from tlm.tuning.result import RESULT, TRIALS, TrialResult, TuningResult
from tlm.tuning.search import NOTES, Search, Trial, opened
from tlm.tuning.space import as_text

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

RUN = "mlflow_run"
"""The attribute of Optuna's study and trials that names their run."""
ENDED = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
LIMIT = 5_000
"""Characters of a tag."""


class TuningRuns:
    """MLflow's runs of a search; a `tlm.tuning.tune.Watcher`. What was begun by a process that died goes on in its run.

    Trials that ended while MLflow did not answer are logged when the search is opened again: Optuna keeps all of them.

    Raises:
        UserError: if MLflow does not answer when the search begins. Later on nobody waits for it.
    """

    def __init__(self, runtime: Runtime, search: Search, key: str) -> None:
        self.runtime, self.search = runtime, search
        config, attributes = search.config, search.optuna.user_attrs
        tags = {"tuning": config.name, "tuning_key": key, **commit_tags(code_version())}
        known = attributes.get(RUN)
        self.tracking = open_run(runtime, config.name, tags, command="tune", experiment=TUNING, known=known)
        self.run_id = self.tracking.parent_run_id
        search.optuna.set_user_attr(RUN, self.run_id)
        self.trackings: dict[int, Tracking] = {}
        """Trial → where the runs of its steps go."""
        self._runs: dict[int, str] = {}
        """Trial → its run, if MLflow gave one."""
        self._outbox = self.tracking.outbox
        self._outbox.put(lambda client: client.log_dict(self.run_id, config.model_dump(mode="json"), "tuning.json"))
        for ended in (trial for trial in search.trials() if NOTES in trial.user_attrs):
            self._outbox.put(partial(self._catch_up, ended))

    def begins(self, trial: Trial) -> None:
        known = trial.handle.user_attrs.get(RUN)
        run_id = self._outbox.now(lambda client: self._run(client, trial.number, known))
        if run_id:
            self._runs[trial.number] = run_id
            trial.handle.set_user_attr(RUN, run_id)
            self._outbox.put(lambda client: client.log_batch(run_id, params=_params(trial.values)))
        # Of a trial that could not be opened the steps belong to the search.
        where = {"parent_run_id": run_id or self.run_id, "study": f"{self.search.config.name} {trial.number}"}
        self.trackings[trial.number] = self.tracking.model_copy(update=where)

    def reports(self, trial: Trial, rung: int, rungs: int, score: Score) -> None:
        if run_id := self._runs.get(trial.number):
            point = Metric("dev_accuracy", score.value, now(), rung)
            self._outbox.put(lambda client: client.log_batch(run_id, metrics=[point]))

    def ends(self, trial: Trial, state: str, score: Score | None, notes: Mapping[str, Any]) -> None:
        if run_id := self._runs.get(trial.number):
            self._outbox.put(lambda client: _log_end(client, run_id, {**notes, "state": state}))

    def close(self, result: TuningResult, status: Status) -> None:
        """End the search's run with what came of it (best trial, importances, all trials), and those of its trials."""
        self._outbox.put(lambda client: self._log_result(client, result))
        close_study(self.tracking, self.runtime, Ending(status=status))

    def _run(self, client: MlflowClient, number: int, known: str | None) -> str:
        """The run of a trial, open again if MLflow knows it."""
        tags = {PARENT: self.run_id, "trial": str(number), **commit_tags(code_version())}
        name = f"{self.search.config.name} {number}"
        return open_or_reopen(client, self.tracking.uri, self.tracking.experiment_id, name, tags, known)

    def _catch_up(self, trial: FrozenTrial, client: MlflowClient) -> None:
        """Log a trial that ended earlier, unless MLflow knows of its end."""
        view = self.tracking.view(client, self.runtime)
        known = view.run(trial.user_attrs.get(RUN, ""))
        mine = f"tags.`{PARENT}` = '{self.run_id}' and tags.trial = '{trial.number}'"
        known = known or next(iter(view.search(mine)), None)
        if known and known.info.status != "RUNNING" and "state" in known.data.tags:
            return
        notes = trial.user_attrs[NOTES]
        run_id = known.info.run_id if known else self._run(client, trial.number, trial.user_attrs.get(RUN))
        points = [Metric("dev_accuracy", value, now(), rung) for rung, value in trial.intermediate_values.items()]
        client.log_batch(run_id, params=_params(notes.get("values", {})), metrics=points)
        _log_end(client, run_id, notes)

    def _log_result(self, client: MlflowClient, result: TuningResult) -> None:
        numbers = {f"importance.{field}": share for field, share in result.importances.items()}
        numbers |= {"trials": len(result.trials)}
        if result.best is not None and result.best.value is not None:
            numbers |= {"dev_accuracy": result.best.value, "best_trial": result.best.number}
            for override in result.best.overrides:
                field, _, value = override.partition("=")
                client.set_tag(self.run_id, f"best.{field}", value[:LIMIT])
        log_metrics(client, self.run_id, numbers, now())
        client.set_tag(self.run_id, "mlflow.note.content", _note(result)[:LIMIT])
        with tempfile.TemporaryDirectory() as folder:
            for name in (RESULT, TRIALS):
                result.write(Path(folder) / name)
            client.log_artifacts(self.run_id, folder)


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


def _log_end(client: MlflowClient, run_id: str, notes: Mapping[str, Any]) -> None:
    """Log what is kept of a trial that has ended, and end its run."""
    numbers = {"seconds": notes["seconds"], **{_metric_name(cell): value for cell, value in notes["cells"].items()}}
    log_metrics(client, run_id, numbers, now())
    client.set_tag(run_id, "state", notes["state"])
    client.set_tag(run_id, "finetuned", " ".join(notes["finetuned"])[:LIMIT])
    if notes["reason"]:
        client.set_tag(run_id, "tlm.error", notes["reason"][:LIMIT])
    client.set_terminated(run_id, ENDED[notes["state"]])


def _params(values: Mapping[str, Any]) -> list[Param]:
    return [Param(field, as_text(value)[:LIMIT]) for field, value in values.items()]


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


def rebuild_searches(view: View, runtime: Runtime) -> int:
    """Make again the runs of searches that MLflow does not know, and return of how many; not of one under way."""
    made = 0
    for path in sorted(runtime.tuning.glob(f"*/{RESULT}")):
        try:
            result = TuningResult.model_validate_json(path.read_bytes())
            with opened(result.tuning, result.key, runtime.tuning, None) as search:
                known = search.optuna.user_attrs.get(RUN)
                if known is None or view.run(known) or view.marked(known):
                    continue
                unfinished = any(trial.state == "running" for trial in result.trials)
                TuningRuns(runtime, search, result.key).close(result, "KILLED" if unfinished else "FINISHED")
                made += 1
        except (UserError, ValidationError):  # at work, or another version's
            continue
    return made
