"""A study from its checked plan to its end, whatever runs its steps: what is there is verified, the rest is made."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from pydantic import BaseModel, ConfigDict

from tasks import board
from tasks.study_run import StudyRun, study_run
from tasks.tracking.study import Tracking
from tlm.artifacts import catalogue
from tlm.artifacts.in_progress import begin, end
from tlm.artifacts.step import ArtifactRef, Step
from tlm.artifacts.store import ArtifactStore
from tlm.machine.runtime import Runtime
from tlm.planning.found import Found, unmade
from tlm.planning.plan import Plan
from tlm.stages import STAGES

RunSteps = Callable[[Sequence[Step], Found, Runtime, Tracking], set[str]]
"""Runs steps; returns the keys of those that were executed, here and not by another run at the same time."""


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


def run_study(planned: Plan, found: Found, runtime: Runtime, run_steps: RunSteps) -> Summary:
    """Run every step of a checked study that the store does not hold whole.

    Args:
        found: as `verified` has it.
        run_steps: not called if there are none.

    Raises:
        UserError: for input that could not be checked before (what a Hub download holds), or an artifact of the study
            that contradicts others.
        StageFailed: if a training process dies.
    """
    study = planned.study
    store = ArtifactStore(runtime.artifacts)
    todo = unmade(planned, found)
    with study_run(runtime, study.name, study.model_dump(mode="json")) as run:
        _note_hits(run, planned, {step.key for step in todo})
        begin(store, planned.study.name, planned.steps)
        executed = run_steps(todo, found, runtime, run.tracking) if todo else set()
        board.current().doing("bringing the catalogue up to date")
        left_out = catalogue.refresh(store, runtime.catalogue, STAGES)
        end(store, planned.steps)
        _note_hits(run, planned, executed)
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


def _note_hits(run: StudyRun, planned: Plan, executed: Collection[str]) -> None:
    """All steps but the executed ones (their keys) are hits: rows of one table, with no task and no run of their own."""
    run.hits = tuple(step.ref for step in planned.steps if step.key not in executed)
    run.numbers |= {"steps": len(planned.steps), "cache_hits": len(run.hits)}
