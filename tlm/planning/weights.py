"""Whether steps that are still to run need weights that were left behind on the machine that trained."""

from __future__ import annotations

from collections.abc import Iterable

from tlm.artifacts.inspection import Inspection
from tlm.artifacts.record import check_here
from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.stages import STAGES


def check_weights(todo: Iterable[Step], store: ArtifactStore) -> None:
    """Raise UserError, naming the first, if steps to run would start from models that are here without weights.

    Such a model is not trained again on its own account: its results are those of the weights that were left behind.
    """
    reading = [step for step in todo if STAGES[step.stage].reads_weights]
    found = store.inspect_each((ref for step in reading for ref in step.inputs.values()), verify=False)
    pairs = ((step, found[key]) for step in reading for key in step.input_keys.values())
    faults = [fault for step, seen in pairs if (fault := _fault(step, seen))]
    if faults:
        step, error = faults[0]
        others = f" (and {len(faults) - 1} more)" if faults[1:] else ""
        raise UserError(f"{step.ref}{others} cannot run: {error.problem}", error.remedy)


def _fault(step: Step, seen: Inspection) -> tuple[Step, UserError] | None:
    if seen.status == "complete" and seen.record:
        try:
            check_here(seen.record, seen.record.left_behind)
        except UserError as error:
            return step, error
    return None
