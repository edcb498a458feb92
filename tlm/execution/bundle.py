"""Carrying a study's training to another machine: a bundle goes out, `tlm.execution.importing` takes home what it made.

A bundle is a folder with `steps.json`, the steps to run, and `data/artifacts`, what they are made from. `python -m
tlm.sequential` runs one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tlm.artifacts.record import RECORD, Record, first_fault, to_file
from tlm.artifacts.step import ArtifactRef, Step
from tlm.artifacts.store import Artifact, ArtifactStore
from tlm.errors import UserError
from tlm.machine.files import read_plain, reason
from tlm.machine.interruption import removing
from tlm.planning.plan import Plan
from tlm.planning.weights import check_weights
from tlm.stages import STAGES

STEPS = "steps.json"
STEPS_BYTES = 100_000_000
"""The largest list of steps that is read; one of a study at the paper's scale has about 2 MB."""
ARTIFACTS = "data/artifacts"


def exported_stages() -> tuple[str, ...]:
    """Stages that a bundle runs. Those that train bring their inputs along; the others run if theirs are there anyway."""
    return (*(stage.name for stage in STAGES.values() if stage.trains), "overlap", "committee")


class Bundle(BaseModel):
    """What `steps.json` holds. `keys` are the steps' keys where it was written: other code would make other ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    study: str
    keys: tuple[str, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Exported:
    """A bundle that was written: how many artifacts it carries as `inputs`, and how many bytes it takes in all."""

    folder: Path
    steps: tuple[Step, ...]
    inputs: int
    bytes: int


def steps_to_export(planned: Plan, store: ArtifactStore, stages: Collection[str] | None = None) -> list[Step]:
    """The steps of these stages (`exported_stages`) that have no complete artifact in the store, each after its inputs.

    Of a stage that does not train, only the steps are exported whose inputs are in the bundle anyway.
    """
    chosen = exported_stages() if stages is None else stages
    left = _unmade([step for step in planned.steps if step.stage in chosen], store)
    training = [step for step in left if STAGES[step.stage].trains]
    within = {key for step in training for key in (step.key, *step.input_keys.values())}
    for step in left:
        if within.issuperset(step.input_keys.values()):
            within.add(step.key)
    return [step for step in left if step.key in within]


def unprepared(planned: Plan, store: ArtifactStore, stages: Collection[str] | None = None) -> list[Step]:
    """The steps that must run here before `export_bundle`: what the bundle is made from and the store does not hold."""
    needed = {ref.key for ref in inputs_from_outside(steps_to_export(planned, store, stages))}
    found = []
    seen = store.inspect_each((step.ref for step in planned.steps), verify=False)
    for step in reversed(planned.steps):  # each before its inputs
        if step.key not in needed or STAGES[step.stage].trains:
            continue
        if seen[step.key].status != "complete" or store.inspect(step.ref).status != "complete":
            found.append(step)
            needed.update(step.input_keys.values())
    return found[::-1]


def export_bundle(
    planned: Plan, store: ArtifactStore, folder: Path, *, stages: Collection[str] | None = None
) -> Exported:
    """Write a bundle of the study's unfinished steps of these stages; `folder` appears whole or not at all.

    Raises:
        UserError: if nothing is left to run, an input is not made yet, damaged or without the weights that a step starts
            from, or the folder is there already.
    """
    steps = steps_to_export(planned, store, stages)
    check_weights(steps, store)
    inputs = inputs_from_outside(steps)
    name = planned.study.name
    if not steps:
        where = ", ".join(exported_stages() if stages is None else stages)
        raise UserError(f"Nothing of the study {name!r} is left to run in {where}.")
    here = store.inspect_each(inputs)
    lacking = [str(ref) for ref in inputs if here[ref.key].status != "complete"]
    if lacking:
        raise UserError(
            f"{len(lacking)} inputs are not made yet: {', '.join(lacking[:5])}{', …' if lacking[5:] else ''}.",
            f"Run what makes them first: `tlm run {name}` does, or tlm.sequential.prepare.",
        )
    if os.path.lexists(folder):
        raise UserError(f"{folder} is there already.", "Name a folder that is not, or remove it.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as aside, removing(Path(aside)):
        draft = Path(aside) / folder.name
        draft.mkdir()
        for ref in inputs:
            artifact = store.get(ref)
            target = draft / ARTIFACTS / str(ref)
            copy_outputs(artifact, target)
            (target / RECORD).write_bytes(to_file(artifact.record.model_copy(update={"stored": None})))
        bundle = Bundle(study=name, keys=tuple(step.key for step in steps), steps=tuple(steps))
        (draft / STEPS).write_text(bundle.model_dump_json(indent=1), encoding="utf-8")
        size = sum(path.stat().st_size for path in draft.rglob("*") if path.is_file())
        draft.rename(folder)
    return Exported(folder, tuple(steps), len(inputs), size)


def read_bundle(folder: Path) -> Bundle:
    """The steps of a bundle.

    Raises:
        UserError: if the folder holds none, or one that was written by code with other stages.
    """
    try:
        bundle = Bundle.model_validate_json(read_plain(folder / STEPS, STEPS_BYTES))
    except OSError as error:
        raise UserError(f"{folder} is not a bundle: {STEPS}: {reason(error)}.", "`tlm export` writes one.") from error
    except ValidationError as error:
        raise UserError(f"{folder / STEPS} does not hold steps ({first_fault(error)}).") from error
    try:
        keys = tuple(step.key for step in bundle.steps)
    except TypeError as error:
        raise UserError(f"{folder / STEPS} does not hold steps ({error}).") from error
    ours = all(step.stage in STAGES and step.version == STAGES[step.stage].version for step in bundle.steps)
    if not ours or bundle.keys != keys:
        raise UserError(f"{folder} was written by another version of this code.", "Use the checkout it was made with.")
    return bundle


def inputs_from_outside(made: Collection[Step] | Collection[Record]) -> list[ArtifactRef]:
    """What these are made from and are not among themselves."""
    own = {each.key for each in made}
    return list({ref.key: ref for each in made for ref in each.inputs.values() if ref.key not in own}.values())


def copy_outputs(artifact: Artifact, target: Path) -> None:
    """Copy every file of an artifact but its record. The folder is made even if there are none."""
    target.mkdir(parents=True, exist_ok=True)
    for name in artifact.record.outputs:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(artifact.path(name), target / name)


def _unmade(steps: Sequence[Step], store: ArtifactStore) -> list[Step]:
    found = store.inspect_each(step.ref for step in steps)
    return [step for step in steps if found[step.key].status != "complete"]
