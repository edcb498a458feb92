"""What the store holds of a plan's steps, and which of them are to be run."""

from __future__ import annotations

from collections.abc import Mapping

from tlm.artifacts.inspection import Inspection
from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.planning.plan import Plan

Found = Mapping[str, Inspection]
"""What the store holds of each step, by key."""


def inspected(planned: Plan, store: ArtifactStore) -> Found:
    """As `verified`, but outputs are not hashed, and what cannot be read is only said to be so."""
    return store.inspect_each((step.ref for step in planned.steps), verify=False)


def verified(planned: Plan, store: ArtifactStore) -> Found:
    """What the store holds of every step, by key, each file hashed; a record without a digest of its own gets one.

    Raises:
        UserError: if an artifact cannot be read.
    """
    found = store.inspect_each(step.ref for step in planned.steps)
    for step in planned.steps:
        found[step.key].check_readable(step.ref)
        record = found[step.key].record
        if record is not None and not record.is_sealed:
            store.seal(step.ref)
    return found


def unmade(planned: Plan, found: Found) -> list[Step]:
    """The steps that are to be run."""
    return [step for step in planned.steps if found[step.key].status != "complete"]
