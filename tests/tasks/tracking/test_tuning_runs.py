"""A search in MLflow: what it misses is logged when the search is opened again, and all of it can be made again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tracked_home import Home, Silent

from tlm.machine.runtime import Runtime
from tlm.tuning.tune import tune

sys.path.insert(0, str(Path(__file__).parents[2] / "tuning"))

from toy_search import SPACE, Toy, measure, toy

pytestmark = pytest.mark.slow  # MLflow takes seconds to import, and to make a database


@pytest.fixture
def search(runtime: Runtime) -> Toy:
    return toy(Path(runtime.home) / "data", at_once=2, over=SPACE)


class Searching:
    """A toy search whose trials are runs in MLflow, which may die before a trial begins or ends."""

    def __init__(self, toy: Toy, runtime: Runtime, dies: str = "") -> None:
        self.toy, self.runtime, self.dies = toy, runtime, dies

    def run(self, trials: int = 4) -> None:
        from tasks.tuning_runs import TuningRuns
        from tlm.study.config import StudyConfig
        from tlm.tuning.result import RESULT, result

        with self.toy.open() as search:
            self.runs = TuningRuns(self.runtime, search, "ab" * 32)
            tune(search, self.toy.store, lambda v: v, measure, self.toy.make, self, trials=trials)  # type: ignore[arg-type]
            base = StudyConfig.model_construct(name="none")
            found = result(search, "ab" * 32, base, None)
            found.write(search.folder / RESULT)
            self.runs.close(found, "FINISHED")

    def begins(self, trial: Any) -> None:
        self._perhaps_die(f"{trial.number} begins")
        self.runs.begins(trial)

    def reports(self, *arguments: Any) -> None:
        self.runs.reports(*arguments)

    def ends(self, trial: Any, state: str, *more: Any) -> None:
        self._perhaps_die(f"{trial.number} ends")
        self.runs.ends(trial, state, *more)

    def _perhaps_die(self, moment: str) -> None:
        if self.dies == moment:
            Silent(self.runs.tracking.outbox)


def shown(runtime: Runtime) -> dict[str, Any]:
    """The runs of the search and of its trials by their names: parameters, numbers and tags, but times and ids."""
    home = Home(runtime)
    experiment = home.client.get_experiment_by_name("tlm-tuning")
    found: dict[str, Any] = {}
    for run in home.client.search_runs([experiment.experiment_id]):
        assert run.info.run_name not in found, "a run twice"
        tags = {name: value for name, value in run.data.tags.items() if name != "mlflow.parentRunId"}
        metrics = dict(run.data.metrics)
        found[run.info.run_name] = (run.info.status, run.data.params, metrics, tags)
    return found


@pytest.fixture
def undisturbed(search: Toy, runtime: Runtime) -> Iterator[dict[str, Any]]:
    Searching(search, runtime).run()
    yield shown(runtime)


def test_a_search_is_shown_with_its_trials(undisturbed: dict[str, Any]) -> None:
    assert set(undisturbed) == {"toy", *(f"toy {number}" for number in range(4))}
    status, _, metrics, tags = undisturbed["toy"]
    assert status == "FINISHED" and metrics["trials"] == 4 and "tlm.process" not in tags
    for number in range(4):
        status, params, metrics, tags = undisturbed[f"toy {number}"]
        assert status == {"complete": "FINISHED", "pruned": "KILLED"}[tags["state"]]
        assert set(params) == set(SPACE) and metrics["seconds"] > 0 and "dev_accuracy" in metrics


@pytest.mark.parametrize("moment", ["0 begins", "1 begins", "1 ends", "3 ends"])
def test_trials_that_mlflow_missed_are_logged_when_the_search_goes_on(
    undisturbed: dict[str, Any], database: Path, tmp_path: Path, moment: str
) -> None:
    runtime = fresh(database, tmp_path / "disturbed")
    disturbed = toy(Path(runtime.home) / "data", at_once=2, over=SPACE)
    Searching(disturbed, runtime, dies=moment).run()
    assert len(disturbed.made) > 0
    made = list(disturbed.made)
    Searching(disturbed, runtime).run()
    assert disturbed.made == made, "nothing is made again"
    assert shown(runtime) == undisturbed
    assert not Home(runtime).client.search_runs(["1", "2"], "status = 'RUNNING'")


def test_a_search_that_mlflow_lost_is_made_again_under_its_ids(
    undisturbed: dict[str, Any], search: Toy, runtime: Runtime, database: Path, tmp_path: Path
) -> None:
    from tasks.tracking.rebuilding import track

    before = {run.info.run_id for run in Home(runtime).client.search_runs(["2"])}
    other = fresh(database, tmp_path / "other")
    (Path(runtime.home) / "data").rename(Path(other.home) / "data")
    assert track(other).searches == 1
    assert {run.info.run_id for run in Home(other).client.search_runs(["2"])} == before
    assert shown(other) == undisturbed
    assert track(other).searches == 0


def fresh(database: Path, home: Path) -> Runtime:
    """A home in which nothing is but an MLflow without runs."""
    runtime = Runtime(home=str(home), data_root=str(home / "raw"), isolate=False)
    runtime.mlflow_folder.mkdir(parents=True)
    (runtime.mlflow_folder / "mlflow.db").write_bytes(database.read_bytes())
    return runtime
