"""The Prefect tasks: one for each stage of `tlm.stages`, cached by step key, a wrapper of `tlm.execution.execute`."""

from __future__ import annotations

from functools import cache
from typing import Any

from prefect import State, Task, get_run_logger, task
from prefect.context import TaskRunContext
from prefect.states import Cancelled, Completed

from tasks.board import End
from tasks.engines import engine_of
from tasks.tracking.step_run import execute_tracked
from tasks.tracking.study import Tracking
from tlm.artifacts.step import ArtifactRef, Step
from tlm.errors import Gone, UserError
from tlm.execution.execute import execute
from tlm.execution.process import StageStopped
from tlm.machine.runtime import Runtime
from tlm.stages import STAGES

CACHED = "Cached"
"""Prefect's name for the state of a task that need not run."""


def step_key(context: TaskRunContext, parameters: dict[str, Any]) -> str:
    """Prefect's cache key is the step's key: what defines the result, and nothing that ran it."""
    return str(parameters["step"].key)


def run_step(step: Step, runtime: Runtime, tracking: Tracking | None) -> ArtifactRef | State[ArtifactRef]:
    """Make one step's artifact (or find it whole), log it to MLflow, and return the reference to it.

    Prefect shows what was found as cached, and what was stopped as cancelled.
    """
    board = engine_of(runtime).board()
    progress = board.open(step.ref)
    end: End = "failed"
    try:
        if tracking is None:
            outcome = execute(step, runtime, progress=progress)
        else:
            outcome = execute_tracked(step, runtime, tracking, progress=progress)
        get_run_logger().info("%s %s (%.1f s)", step.ref, outcome.status, outcome.record.seconds)
        if outcome.status == "executed":
            for note in STAGES[step.stage].notes(outcome.record):
                board.note(step.ref, note)
        end = "done" if outcome.status == "executed" else "found"
    except StageStopped as error:
        end = "stopped"
        return Cancelled(message=str(error))
    finally:
        board.close(step.ref, end)
    return step.ref if end == "done" else Completed(name=CACHED, message="It was there.", data=step.ref)


def _passing_fault(task: Any, task_run: Any, state: Any) -> bool:
    """Only what may go better next time is worth a retry: the user's errors are not, but for an input that is gone."""
    try:
        state.result()
    except UserError as error:
        return isinstance(error, Gone)
    except Exception:
        return True
    return False


@cache
def task_of(stage: str) -> Task[..., ArtifactRef | State[ArtifactRef]]:
    """The Prefect task of a stage."""
    decorate = task(
        name=stage,
        task_run_name=stage + "/{step.slug}",
        cache_key_fn=step_key,
        persist_result=True,
        refresh_cache=True,  # a live Prefect result proves nothing about the artifact: only the store's word decides
        result_serializer="json",
        retries=STAGES[stage].retries,
        retry_delay_seconds=5,
        retry_condition_fn=_passing_fault,
    )
    return decorate(run_step)
