"""How far a study is, for those who look at its flow run in Prefect: lines of its log, and a progress artifact."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from tlm.artifacts.step import Step
from tlm.study.base import slugify

SECONDS = 2.0
"""Between two updates of the artifact, at least: studies have hundreds of steps that take no time."""
UNSHOWN = "the progress artifact is not shown any further (%s); the study goes on"


def artifact_key(study: str, kind: str) -> str:
    """The key of one of a study's artifacts in Prefect, which takes letters, digits and dashes."""
    return f"{slugify(study).replace('.', '-')}-{kind}"


class StudyProgress:
    """Says which step begins, and how many have ended. To be made, and told, in the flow itself.

    If Prefect refuses the artifact, or is away for longer than its client tries again, the study goes on without it.

    Args:
        study: its name.
        steps: how many it has.
        todo: how many of them are to be made.
    """

    def __init__(self, study: str, *, steps: int, todo: int) -> None:
        self.todo, self.ended = todo, 0
        self._log = get_run_logger()
        self._log.info("%s: %d steps, %d to run", study, steps, todo)
        self._artifact: UUID | None = None
        with self._forgiving():
            made = create_progress_artifact(
                progress=self._percent, key=artifact_key(study, "progress"), description=self._said
            )
            self._artifact = cast(UUID, made)
        self._told = time.monotonic()

    def begins(self, step: Step) -> None:
        self._log.info("%s begins", step.ref)

    def ends(self, step: Step) -> None:
        self.ended += 1
        self._log.info("%s ends: %s", step.ref, self._said)
        if self._artifact and (self.ended == self.todo or time.monotonic() > self._told + SECONDS):
            self._told = time.monotonic()
            shown: Any = {"progress": self._percent, "description": self._said}
            with self._forgiving():
                update_progress_artifact(self._artifact, **shown)

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever it is: what is trained is worth more
            self._artifact = None
            self._log.warning(UNSHOWN, str(error) or type(error).__name__)

    @property
    def _percent(self) -> float:
        return 100 * self.ended / self.todo if self.todo else 100.0

    @property
    def _said(self) -> str:
        return f"{self.ended} of {self.todo} steps"
