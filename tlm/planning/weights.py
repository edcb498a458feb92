"""Whether steps that are still to run need weights that were left behind on the machine that trained."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import filter as matching

from tlm.artifacts.record import check_here
from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.stages import STAGES


def check_weights(todo: Iterable[Step], store: ArtifactStore) -> None:
    """Raise UserError, naming the first, if steps to run would start from models that are here without weights.

    Such a model is not trained again on its own account: its results are those of the weights that were left behind.
    """
    faults = [
        fault
        for step in todo
        for pattern in STAGES[step.stage].reads_weights
        for name in matching(step.inputs, pattern)
        if (fault := _fault(step, name, store))
    ]
    if faults:
        step, error = faults[0]
        others = f" (and {len(faults) - 1} more)" if faults[1:] else ""
        raise UserError(f"{step.ref}{others} cannot run: {error.problem}", error.remedy)


def _fault(step: Step, name: str, store: ArtifactStore) -> tuple[Step, UserError] | None:
    ref = step.inputs.get(name)
    seen = store.inspect(ref, verify=False) if ref else None
    if seen and seen.status == "complete" and seen.record:
        try:
            check_here(seen.record, seen.record.left_behind)
        except UserError as error:
            return step, error
    return None
