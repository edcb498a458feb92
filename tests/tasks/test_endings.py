"""How runs end in MLflow: killed if they were interrupted, failed if they failed, and never hiding why."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from helpers import Mini, only

from tlm.errors import UserError
from tlm.execution.process import StageFailed, StageStopped
from tlm.machine.runtime import Runtime

pytestmark = pytest.mark.slow  # importing MLflow takes seconds


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(home=str(tmp_path_factory.mktemp("home")), data_root="/nonexistent")


def runs_of(tracking: Any) -> dict[str, Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=tracking.uri)
    parent = client.get_run(tracking.parent_run_id)
    children = client.search_runs([tracking.experiment_id], f"tags.`mlflow.parentRunId` = '{tracking.parent_run_id}'")
    return {"parent": parent, **{run.info.run_name: run for run in children}}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(143), "KILLED"),
        (StageStopped("stopped"), "KILLED"),
        (StageFailed("code -9"), "FAILED"),
        (UserError("bad"), "FAILED"),
        (ValueError("bug"), "FAILED"),
        (None, "FINISHED"),
    ],
    ids=repr,
)
def test_a_study_ends_as_what_ended_it_and_that_is_what_is_raised(
    error: BaseException | None, status: str, runtime: Runtime
) -> None:
    from tasks.study_run import study_run

    raised = None
    try:
        with study_run(runtime, "study", {}) as run:
            run.numbers["steps"] = 3
            if error:
                raise error
    except BaseException as seen:
        raised = seen
    assert raised is error
    ended = runs_of(run.tracking)["parent"]
    assert ended.info.status == status
    assert status == "KILLED" or ended.data.metrics == {"steps": 3}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), StageStopped("stopped"), ValueError("bug")], ids=repr)
def test_what_goes_wrong_in_ending_a_run_does_not_stand_in_for_the_cause(
    error: BaseException, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, mini: Mini
) -> None:
    from mlflow import MlflowClient

    from tasks.study_run import study_run
    from tasks.tracking.step_run import StepRun

    def broken(*_: Any, **__: Any) -> None:
        raise OSError("MLflow is gone")

    with pytest.raises(BaseException) as raised, study_run(runtime, "study", {}) as run:
        step = StepRun(run.tracking, mini.plan.steps[0], mini.runtime)
        step.start()
        for call in ("set_terminated", "set_tag", "log_batch", "search_runs"):
            monkeypatch.setattr(MlflowClient, call, broken)
        step.fail(error)
        raise error
    assert raised.value is error


def test_a_study_that_is_cancelled_takes_the_runs_of_its_steps_along(runtime: Runtime, mini: Mini) -> None:
    from tasks.study_run import study_run
    from tasks.tracking.step_run import StepRun

    done, under_way, stopped, failed = mini.plan.steps[:4]
    with pytest.raises(KeyboardInterrupt), study_run(runtime, "study", {}) as run:
        for step in (done, under_way, stopped, failed):
            child = StepRun(run.tracking, step, mini.runtime)
            child.start()
            if step is done:
                child.finish(mini.store.get(step.ref).record)
            elif step is not under_way:
                child.fail(StageStopped("stopped") if step is stopped else StageFailed("bug"))
        raise KeyboardInterrupt
    statuses = Counter(run.info.status for run in runs_of(run.tracking).values())
    assert statuses == {"KILLED": 3, "FINISHED": 1, "FAILED": 1}


def test_what_another_run_makes_at_the_same_time_has_one_run_only(own: Mini, runtime: Runtime) -> None:
    from tasks.study_run import study_run
    from tasks.tracking.step_run import execute_tracked

    step = only(own.plan, "overlap", ws=60)
    own.store.delete(step.ref)
    with study_run(runtime, "one", {}) as one, study_run(runtime, "other", {}) as other, ThreadPoolExecutor(2) as pool:
        with own.store.lock(step.ref):
            waiting = [pool.submit(execute_tracked, step, own.runtime, run.tracking) for run in (one, other)]
        outcomes = [each.result() for each in waiting]
    assert {outcome.status for outcome in outcomes} == {"executed", "cached"}
    runs = [runs_of(run.tracking) for run in (one, other)]
    made, found = (runs[[o.status for o in outcomes].index(how)] for how in ("executed", "cached"))
    assert list(found) == ["parent"]
    assert made[f"{step.slug} overlap"].info.status == "FINISHED"
