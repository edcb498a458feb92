"""What was, or will be, made on another machine, with MLflow as if it had been made here."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from tasks.study_run import study_run
from tasks.tracking.step_run import StepRun, execute_tracked
from tasks.tracking.study import Tracking
from tlm.artifacts.catalogue import unfit
from tlm.artifacts.record import Record
from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.execution.archives import unpacked
from tlm.execution.bundle import unprepared
from tlm.execution.execute import Outcome
from tlm.execution.importing import Imported, copy_new, survey
from tlm.execution.pages import make_again, set_apart
from tlm.machine.runtime import Runtime
from tlm.planning.plan import Plan
from tlm.sequential import prepare
from tlm.stages import STAGES


def import_folder(place: Path, runtime: Runtime) -> Imported:
    """Import the artifacts under a folder or in archives, each with a child run of one run named `import`.

    Reports are not taken over but made again here (`tlm.execution.pages`). MLflow is left alone if nothing is new.

    Raises:
        UserError: if there are no artifacts, or an archive is not sound.
    """
    with unpacked(place) as folder:
        return _import(folder, place.resolve().name, runtime)


def _import(folder: Path, origin: str, runtime: Runtime) -> Imported:
    store = ArtifactStore(runtime.artifacts)
    found = survey(folder, store, trial=partial(unfit, store, stages=STAGES))
    if not found.new:
        return copy_new(found, store)
    with study_run(runtime, "import", {"imported_from": origin}, command="import") as run:
        others, pages = set_apart(found)
        done = copy_new(others, store, partial(_imported_run, run.tracking, runtime, origin))
        make = partial(execute_tracked, runtime=runtime, tracking=run.tracking)
        made, refused = make_again(pages, found.source, make)
        done = replace(done, imported=done.imported + made, refused=done.refused | refused)
        run.numbers |= {"imported": len(done.imported), "present": len(done.present), "refused": len(done.refused)}
    return done


def prepare_bundle(planned: Plan, runtime: Runtime, *, stages: Collection[str] | None = None) -> list[Outcome]:
    """`tlm.sequential.prepare` with a run for each step. Raises what its stages raise."""
    if not unprepared(planned, ArtifactStore(runtime.artifacts), stages):
        return []
    study = planned.study
    with study_run(runtime, study.name, study.model_dump(mode="json"), command="export") as run:
        made = prepare(planned, runtime, stages=stages, run=partial(execute_tracked, tracking=run.tracking))
        run.numbers["steps"] = len(made)
    return made


@contextmanager
def _imported_run(
    tracking: Tracking, runtime: Runtime, origin: str, step: Step, record: Record
) -> Iterator[dict[str, str]]:
    """The run of one imported artifact: opened before its record is written, ended when it is in place."""
    run = StepRun(tracking, step, runtime)
    try:
        yield run.start_import(record, origin)
        run.finish(ArtifactStore(runtime.artifacts).get(step.ref).record)
    except BaseException as error:
        run.fail(error)
        raise
