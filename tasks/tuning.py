"""A search's trials as Prefect's tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefect.futures import PrefectFuture

from tasks.scheduling import run_all
from tasks.stages import task_of
from tasks.tracking.study import Tracking
from tlm.artifacts.step import ArtifactRef, Step
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.execution.process import StageFailed, is_cancellation
from tlm.machine.runtime import Runtime


class StepMaker:
    """Makes what the store does not hold whole: a `tlm.tuning.tune.Make`.

    Args:
        trackings: trial → where the runs of its steps go; it may still grow.
    """

    def __init__(self, runtime: Runtime, trackings: Mapping[int, Tracking]) -> None:
        self.runtime = runtime
        self.trackings = trackings
        self._store = ArtifactStore(runtime.artifacts)
        self._whole: set[str] = set()
        """Keys whose artifacts have been verified, or made."""

    def __call__(self, todo: Mapping[int, Sequence[Step]]) -> dict[str, str]:
        """Raises what is no fault of a trial's (a full disk, say)."""
        trial_of = {step.key: number for number, steps in todo.items() for step in steps}
        steps = [step for each in todo.values() for step in each if not self._is_whole(step)]
        futures: dict[str, PrefectFuture[Any]] = {}
        failed: dict[str, str] = {}

        def submit(step: Step, inputs: Sequence[PrefectFuture[Any]]) -> PrefectFuture[ArtifactRef]:
            task, tracking = task_of(step.stage), self.trackings[trial_of[step.key]]
            futures[step.key] = task.submit(step, self.runtime, tracking, wait_for=list(inputs))
            return futures[step.key]

        while steps:
            try:
                run_all(steps, submit, at_once=self.runtime.workers)
            except (UserError, StageFailed):
                found = _failures(futures)
                if found.keys() <= failed.keys():  # no task's failure
                    raise
                failed |= found
            for step in steps:
                if lost := next((key for key in step.input_keys.values() if key in failed), None):
                    failed.setdefault(step.key, failed[lost])
            steps = [step for step in steps if step.key not in failed and step.key not in futures]
        self._whole |= futures.keys() - failed.keys()
        return failed

    def _is_whole(self, step: Step) -> bool:
        if step.key not in self._whole and self._store.inspect(step.ref).status == "complete":
            self._whole.add(step.key)
        return step.key in self._whole


def _failures(futures: Mapping[str, PrefectFuture[Any]]) -> dict[str, str]:
    """Step key → why its task failed. Raises what is no fault of a trial's."""
    failed = {}
    for key, future in futures.items():
        if not future.state.is_completed():
            try:
                future.result(raise_on_failure=True)
            except (UserError, StageFailed) as error:
                if is_cancellation(error):
                    raise
                failed[key] = f"{error}".partition("\n")[0]
    return failed
