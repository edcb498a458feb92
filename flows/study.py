"""The flow: check a study, run what of it is not made yet, show the result in Prefect's UI."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, wraps
from inspect import signature
from typing import Any

from prefect import Flow, State, flow, get_run_logger
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run

from flows.completing import Summary, run_study
from flows.planning import show_left_out
from flows.progress import StudyProgress, artifact_key
from tasks.engines import engine_of, task_runner
from tasks.flow_runs import outliving_the_worker
from tasks.scheduling import run_all
from tasks.stages import CACHED, task_of
from tasks.tracking.study import Tracking
from tasks.tracking.study_page import verdicts
from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.cost.precision import settled
from tlm.machine.runtime import Runtime, trains_here
from tlm.planning.found import Found, unmade, verified
from tlm.planning.plan import Plan
from tlm.planning.preflight import check
from tlm.report.formatting import Link
from tlm.report.saved import SUMMARY_FILE, load_summary
from tlm.study.config import StudyConfig
from tlm.study.dry_run import DRY_RUN, is_dry_run


def run_steps(todo: Sequence[Step], found: Found, runtime: Runtime, tracking: Tracking) -> set[str]:
    """Run the steps as Prefect's tasks, of which the store alone decides whether they are needed: a `RunSteps`."""
    logger, engine = get_run_logger(), engine_of(runtime)
    progress = StudyProgress(tracking.study, steps=len(found), todo=len(todo))

    def submit(step: Step, inputs: Sequence[PrefectFuture[Any]]) -> PrefectFuture[Any]:
        inspection = found[step.key]
        if inspection.status == "damaged":
            logger.warning("%s: %s; making it again", step.ref, inspection.reason)
        progress.begins(step)
        with engine.placing(step, runtime):
            return task_of(step.stage).submit(step=step, runtime=runtime, tracking=tracking, wait_for=list(inputs))

    with engine.telling():
        done = run_all(todo, submit, at_once=engine.at_once(runtime), stop=engine.stop, ended=progress.ends)
    return {key for key, future in done.items() if future.state.name != CACHED}


def study_flow(name: str, form: Callable[..., StudyConfig]) -> Flow[..., Summary | State]:
    """A flow that a worker runs, with the worker's own runtime (from its environment).

    Args:
        form: makes the study of the flow's parameters, which are its own; raises UserError.
    """

    @wraps(form)
    def run(*given: Any, **named: Any) -> Summary | State:
        return outliving_the_worker(lambda: run_and_show(form(*given, **named), Runtime.from_environment()))

    # Prefect looks up annotations that are text in this module, not in the form's.
    run.__signature__ = signature(form, eval_str=True)  # type: ignore[attr-defined]
    options: Any = {"task_runner": task_runner(Runtime.from_environment()), "persist_result": False}
    return flow(name=name, flow_run_name=partial(_run_name, name), **options)(run)


def _run_name(name: str) -> str:
    """Whoever starts a run may name it; one that the schedule starts is named by its study."""
    context = FlowRunContext.get()
    started = context.flow_run if context else None
    return name if started is None or started.auto_scheduled else started.name


def run_and_show(study: StudyConfig, runtime: Runtime) -> Summary:
    """Check a study, run it, and leave its results in Prefect's UI.

    Raises:
        UserError: for bad input, before any work and before anything is written.
    """
    say = get_run_logger().info
    engine_of(runtime).check(study, runtime)
    planned = check(study, runtime, settle=partial(settled, runtime=runtime, say=say), trains_here=trains_here(runtime))
    show_left_out(planned, runtime, say)
    return run_checked(planned, verified(planned, ArtifactStore(runtime.artifacts)), runtime)


def run_checked(planned: Plan, found: Found, runtime: Runtime) -> Summary:
    """Run a checked study, of which the store holds what was `found`, and leave its results in Prefect's UI."""
    if not unmade(planned, found):
        StudyProgress(planned.study.name, steps=len(planned.steps), todo=0)
    summary = run_study(planned, found, runtime, run_steps)
    show_in_prefect(planned, runtime, summary)
    return summary


def show_in_prefect(planned: Plan, runtime: Runtime, summary: Summary) -> None:
    """Leave the summary, the verdicts, the report and the way to MLflow as artifacts of the flow run."""
    study = planned.study
    key = partial(artifact_key, study.name)
    report = ArtifactStore(runtime.artifacts).get(summary.report)
    frame = load_summary(report.path(SUMMARY_FILE))
    rows: Any = frame.astype(object).where(frame.notna(), None).to_dict("records")
    warning = f"{DRY_RUN} " if is_dry_run(study) else ""
    described = f"{warning}Results of {study.title or study.name}"
    create_table_artifact(table=rows, key=key("results"), description=described)
    create_link_artifact(
        link=Link(summary.mlflow_experiment_id, summary.mlflow_run_id).url(runtime.mlflow_url),
        link_text=f"{study.name} in MLflow",
        key=key("mlflow"),
    )
    if found := verdicts(report):
        create_markdown_artifact(markdown=found, key=key("verdicts"), description=f"{warning}What the study says")
    text = report.path("report.md").read_text(encoding="utf-8")
    create_markdown_artifact(markdown=text, key=key("report"), description=str(flow_run.name))
