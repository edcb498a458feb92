"""The MLflow run of a whole study, from before its first step to its end, whatever that is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tasks import board
from tasks.tracking.ending import Ending, Status
from tasks.tracking.study import Tracking, close_study, open_study
from tlm.artifacts.provenance import provenance
from tlm.artifacts.step import ArtifactRef
from tlm.execution.process import is_cancellation
from tlm.machine.interruption import closing
from tlm.machine.runtime import Runtime


@dataclass
class StudyRun:
    """What is logged when it ends: numbers and hits always; the report, with its files and verdicts, unless it failed."""

    tracking: Tracking
    numbers: dict[str, float] = field(default_factory=dict)
    report: ArtifactRef | None = None
    hits: tuple[ArtifactRef, ...] = ()
    """What it found already made."""


@contextmanager
def study_run(runtime: Runtime, name: str, content: Mapping[str, Any], *, command: str = "run") -> Iterator[StudyRun]:
    """Open a study's run and end it with the block: FINISHED, FAILED, or KILLED if it was interrupted.

    What goes wrong in ending it never stands in for the reason why it failed: nothing that MLflow does is raised.

    Args:
        command: what makes the run: run, import or export.
    """
    run = StudyRun(open_study(runtime, name, content, provenance(), command=command))

    def end(status: Status) -> None:
        board.current().doing("telling MLflow how it ended")
        report = run.report if status == "FINISHED" else None
        ending = Ending(status=status, numbers=run.numbers, report=report, hits=run.hits)
        close_study(run.tracking, runtime, ending)

    with closing(lambda: end("KILLED")):
        try:
            yield run
        except BaseException as error:
            end("KILLED" if is_cancellation(error) else "FAILED")
            raise
        end("FINISHED")
