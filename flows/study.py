"""The flow: check a study, run its steps, rebuild the catalogue, show the result in Prefect's UI."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from prefect import Flow, State, flow, get_run_logger
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from pydantic import BaseModel, ConfigDict

from flows.planning import show_left_out
from tasks.engines import task_runner
from tasks.flow_runs import outliving_the_worker
from tasks.scheduling import run_all
from tasks.stages import CACHED, rebuild_catalogue, task_of
from tasks.study_run import study_run
from tasks.tracking.study import StepRun, Tracking
from tasks.tracking.study_page import verdicts
from tlm.artifacts.in_progress import begin, end
from tlm.artifacts.step import ArtifactRef, Step
from tlm.artifacts.store import ArtifactStore, Inspection
from tlm.cost.precision import settled
from tlm.machine.runtime import Runtime
from tlm.planning.plan import Plan
from tlm.planning.preflight import check
from tlm.report.formatting import Link
from tlm.report.saved import SUMMARY_FILE, load_summary
from tlm.study.base import slugify
from tlm.study.config import StudyConfig


class Summary(BaseModel):
    """What a run of a study did."""

    model_config = ConfigDict(frozen=True)

    study: str
    executed: tuple[str, ...]
    cached: int
    damaged: dict[str, str]
    """Artifact → what was wrong with it, so that it was made again."""
    left_out: dict[str, str]
    """Artifact, of any study → why the catalogue does not show it."""
    report: ArtifactRef
    mlflow_run_id: str
    mlflow_experiment_id: str


def run_study(planned: Plan, runtime: Runtime) -> Summary:
    """Run every step of a checked study that the store does not hold whole.

    Raises:
        UserError: for input that could not be checked before (what a Hub download holds), or an artifact of the study
            that cannot be read.
        StageFailed: if a training process dies.
    """
    study = planned.study
    store = ArtifactStore(runtime.artifacts)
    found = _verified(planned, store)
    with study_run(runtime, study.name, study.model_dump(mode="json")) as run:
        run.numbers |= {"steps": len(found), "cache_hits": sum(each.status == "complete" for each in found.values())}
        begin(store, planned.study.name, planned.steps)
        executed = _run_steps(planned, found, runtime, run.tracking)
        left_out = rebuild_catalogue(runtime)
        end(store, planned.steps)
        run.numbers["cache_hits"] = len(found) - len(executed)
        run.report = planned.report.ref
    return Summary(
        study=study.name,
        executed=tuple(str(s.ref) for s in planned.steps if s.key in executed),
        cached=len(found) - len(executed),
        damaged={str(s.ref): found[s.key].reason for s in planned.steps if found[s.key].status == "damaged"},
        left_out=left_out,
        report=planned.report.ref,
        mlflow_run_id=run.tracking.parent_run_id,
        mlflow_experiment_id=run.tracking.experiment_id,
    )


def _verified(planned: Plan, store: ArtifactStore) -> dict[str, Inspection]:
    """What the store holds of every step, by key, each file hashed; a record without a digest of its own gets one."""
    found = {step.key: store.inspect(step.ref) for step in planned.steps}
    for step in planned.steps:
        found[step.key].check_readable(step.ref)
        record = found[step.key].record
        if record is not None and not record.is_sealed:
            store.seal(step.ref)
    return found


def _run_steps(planned: Plan, found: dict[str, Inspection], runtime: Runtime, tracking: Tracking) -> set[str]:
    """Run the steps; return the keys of those that were executed, here and not by another run at the same time."""
    logger = get_run_logger()

    def submit(step: Step, inputs: Sequence[PrefectFuture[Any]]) -> PrefectFuture[Any]:
        inspection = found[step.key]
        hit = inspection.status == "complete"
        if inspection.status == "damaged":
            logger.warning("%s: %s; making it again", step.ref, inspection.reason)
        if hit and inspection.record is not None:
            StepRun(tracking, step, runtime).cached(inspection.record)
        # A live Prefect result proves nothing about the artifact: only the store's word decides.
        stage = task_of(step.stage).with_options(refresh_cache=not hit)
        return stage.submit(step=step, runtime=runtime, tracking=tracking, hit_logged=hit, wait_for=list(inputs))

    done = run_all(planned.steps, submit, at_once=runtime.workers)
    return {key for key, future in done.items() if future.state.name != CACHED}


def study_flow(name: str, default: StudyConfig | None = None, workers: int | None = None) -> Flow[..., Summary | State]:
    """A flow that runs one study, by default `default`, with the worker's own runtime (from its environment)."""

    def run(study: StudyConfig) -> Summary | State:
        return outliving_the_worker(lambda: run_and_show(study, Runtime.from_environment()))

    if default is not None:
        run.__defaults__ = (default,)
    run.__doc__ = default.title if default else "Run a study."
    runtime = Runtime.from_environment(workers=workers)
    options: Any = {"task_runner": task_runner(runtime), "persist_result": False}
    return flow(name=name, flow_run_name="{study.name}", **options)(run)


def run_and_show(study: StudyConfig, runtime: Runtime, planned: Plan | None = None) -> Summary:
    """Check a study (unless it comes with its checked plan), run it, and leave its results in Prefect's UI.

    Raises:
        UserError: for bad input, before any work and before anything is written.
    """
    if planned is None:
        say = get_run_logger().info
        planned = check(study, runtime, settle=partial(settled, runtime=runtime, say=say))
        show_left_out(planned, runtime, say)
    summary = run_study(planned, runtime)
    show_in_prefect(planned, runtime, summary)
    return summary


def show_in_prefect(planned: Plan, runtime: Runtime, summary: Summary) -> None:
    """Leave the summary, the verdicts, the report and the way to MLflow as artifacts of the flow run."""
    study = planned.study
    name = slugify(study.name).replace(".", "-")
    report = ArtifactStore(runtime.artifacts).get(summary.report)
    frame = load_summary(report.path(SUMMARY_FILE))
    rows: Any = frame.astype(object).where(frame.notna(), None).to_dict("records")
    create_table_artifact(table=rows, key=f"{name}-results", description=f"Results of {study.title or study.name}")
    create_link_artifact(
        link=Link(summary.mlflow_experiment_id, summary.mlflow_run_id).url(runtime.mlflow_url),
        link_text=f"{study.name} in MLflow",
        key=f"{name}-mlflow",
    )
    if found := verdicts(report):
        create_markdown_artifact(markdown=found, key=f"{name}-verdicts", description="What the study says")
    text = report.path("report.md").read_text(encoding="utf-8")
    create_markdown_artifact(markdown=text, key=f"{name}-report", description=str(flow_run.name))
