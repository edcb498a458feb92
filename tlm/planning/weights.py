"""Whether steps that are still to run need weights that were left behind on the machine that trained."""

from __future__ import annotations

from collections.abc import Iterable

from tlm.artifacts.record import check_here
from tlm.artifacts.step import ArtifactRef, Step
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.stages import STAGES


def check_weights(todo: Iterable[Step], store: ArtifactStore) -> None:
    """Raise UserError, naming the first, if steps to run would start from models that are here without weights.

    Such a model is not trained again on its own account: its results are those of the weights that were left behind.
    """
    reading = (step for step in todo if STAGES[step.stage].reads_weights)
    faults = [fault for step in reading for ref in step.inputs.values() if (fault := _fault(step, ref, store))]
    if faults:
        step, error = faults[0]
        others = f" (and {len(faults) - 1} more)" if faults[1:] else ""
        raise UserError(f"{step.ref}{others} cannot run: {error.problem}", error.remedy)


def _fault(step: Step, ref: ArtifactRef, store: ArtifactStore) -> tuple[Step, UserError] | None:
    seen = store.inspect(ref, verify=False)
    if seen.status == "complete" and seen.record:
        try:
            check_here(seen.record, seen.record.left_behind)
        except UserError as error:
            return step, error
    return None
