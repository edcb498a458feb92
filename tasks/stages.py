"""The Prefect tasks: one for each stage, cached by step key, each a thin wrapper over `tlm.execution.execute`.

A new stage needs its entry in `tlm.artifacts.step.STAGES` and one line here.
"""

from __future__ import annotations

from typing import Any

from prefect import Task, get_run_logger, task
from prefect.context import TaskRunContext

from tasks import board
from tasks.tracking import Tracking, execute_tracked
from tlm.artifacts import catalogue as catalogue_views
from tlm.artifacts.step import ArtifactRef, Step
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.execution.execute import execute
from tlm.machine.runtime import Runtime


def step_key(context: TaskRunContext, parameters: dict[str, Any]) -> str:
    """Prefect's cache key is the step's key: what defines the result, and nothing that ran it."""
    return str(parameters["step"].key)


def run_step(step: Step, runtime: Runtime, tracking: Tracking | None) -> ArtifactRef:
    """Make one step's artifact (or find it whole), log it to MLflow, and return the reference to it."""
    progress = board.current().open(step.ref)
    ok = False
    try:
        if tracking is None:
            outcome = execute(step, runtime, progress=progress)
        else:
            outcome = execute_tracked(step, runtime, tracking, progress=progress)
        get_run_logger().info("%s %s (%.1f s)", step.ref, outcome.status, outcome.record.seconds)
        ok = True
    finally:
        board.current().close(step.ref, ok)
    return step.ref


def _stage_task(stage: str, **options: Any) -> Task[..., ArtifactRef]:
    decorate = task(
        name=stage,
        task_run_name=stage + "/{step.slug}",
        cache_key_fn=step_key,
        persist_result=True,
        result_serializer="json",
        **options,
    )
    return decorate(run_step)


def _passing_fault(task: Any, task_run: Any, state: Any) -> bool:
    """Only what may go better next time is worth a retry: the user's errors are not."""
    try:
        state.result()
    except UserError:
        return False
    except Exception:
        return True
    return False


source = _stage_task("source", retries=2, retry_delay_seconds=5, retry_condition_fn=_passing_fault)
tokenizer = _stage_task("tokenizer", retries=2, retry_delay_seconds=5, retry_condition_fn=_passing_fault)
tokens = _stage_task("tokens")
corpus = _stage_task("corpus")
task_items = _stage_task("task")
overlap = _stage_task("overlap")
duplicates = _stage_task("duplicates")
inject = _stage_task("inject")
shuffle = _stage_task("shuffle")
mix = _stage_task("mix")
pretrain = _stage_task("pretrain")
finetune = _stage_task("finetune")
committee = _stage_task("committee")
latency = _stage_task("latency")
baseline = _stage_task("baseline")
report = _stage_task("report")

TASKS: dict[str, Task[..., ArtifactRef]] = {
    each.name: each
    for each in (
        source,
        tokenizer,
        tokens,
        corpus,
        task_items,
        overlap,
        duplicates,
        inject,
        shuffle,
        mix,
        pretrain,
        finetune,
        committee,
        latency,
        baseline,
        report,
    )
}


@task(name="catalogue", persist_result=False)
def rebuild_catalogue(runtime: Runtime) -> str:
    """Rebuild the DuckDB catalogue from the records, unless it already shows them."""
    store = ArtifactStore(runtime.artifacts)
    if catalogue_views.is_stale(store, runtime.catalogue):
        catalogue_views.build(store, runtime.catalogue)
    return str(runtime.catalogue)
