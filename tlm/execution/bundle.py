"""Carrying a study's training to another machine and back: a bundle goes out, finished artifacts come home.

A bundle is a folder with `steps.json`, the steps to run, and `data/artifacts`, what they are made from. `python -m
tlm.sequential` runs one. What comes home is treated as foreign: nothing is imported that its own record does not prove.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tlm.artifacts.lineage import in_order
from tlm.artifacts.step import ArtifactRef, Step
from tlm.artifacts.store import RECORD, Artifact, ArtifactStore, Record, first_fault
from tlm.errors import UserError
from tlm.machine.interruption import removing
from tlm.planning.plan import Plan
from tlm.stages import STAGES

STEPS = "steps.json"
ARTIFACTS = "data/artifacts"
EXPORTED = (*(stage.name for stage in STAGES.values() if stage.trains), "overlap", "committee")
"""Stages that a bundle runs. Those that train bring their inputs along; the others run if theirs are there anyway."""


class Bundle(BaseModel):
    """What `steps.json` holds. `keys` are the steps' keys where it was written: other code would make other ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    study: str
    keys: tuple[str, ...]
    steps: tuple[Step, ...]


# --- going out ---


@dataclass(frozen=True)
class Exported:
    """A bundle that was written: how many artifacts it carries as `inputs`, and how many bytes it takes in all."""

    folder: Path
    steps: tuple[Step, ...]
    inputs: int
    bytes: int


def steps_to_export(planned: Plan, store: ArtifactStore, stages: Collection[str] = EXPORTED) -> list[Step]:
    """The steps of these stages that have no complete artifact in the store, each after its inputs.

    Of a stage that does not train, only the steps are exported whose inputs are in the bundle anyway.
    """
    left = [step for step in planned.steps if step.stage in stages and not _is_complete(store, step.ref)]
    training = [step for step in left if STAGES[step.stage].trains]
    within = {key for step in training for key in (step.key, *step.input_keys.values())}
    for step in left:
        if within.issuperset(step.input_keys.values()):
            within.add(step.key)
    return [step for step in left if step.key in within]


def unprepared(planned: Plan, store: ArtifactStore, stages: Collection[str] = EXPORTED) -> list[Step]:
    """The steps that must run here before `export_bundle`: what the bundle is made from and the store does not hold."""
    needed = {ref.key for ref in _inputs_from_outside(steps_to_export(planned, store, stages))}
    found = []
    for step in reversed(planned.steps):  # each before its inputs
        if step.key in needed and not STAGES[step.stage].trains and not _is_complete(store, step.ref):
            found.append(step)
            needed.update(step.input_keys.values())
    return found[::-1]


def export_bundle(planned: Plan, store: ArtifactStore, folder: Path, *, stages: Collection[str] = EXPORTED) -> Exported:
    """Write a bundle of the study's unfinished steps of these stages; `folder` appears whole or not at all.

    Raises:
        UserError: if nothing is left to run, an input is not made yet or damaged, or the folder is there already.
    """
    steps = steps_to_export(planned, store, stages)
    inputs = _inputs_from_outside(steps)
    name = planned.study.name
    if not steps:
        raise UserError(f"Nothing of the study {name!r} is left to run in {', '.join(stages)}.")
    lacking = [str(ref) for ref in inputs if not _is_complete(store, ref)]
    if lacking:
        raise UserError(
            f"{len(lacking)} inputs are not made yet: {', '.join(lacking[:5])}{', …' if lacking[5:] else ''}.",
            f"Run what makes them first: `tlm run {name}` does, or tlm.sequential.prepare.",
        )
    if folder.exists():
        raise UserError(f"{folder} is there already.", "Name a folder that is not, or remove it.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as aside, removing(Path(aside)):
        draft = Path(aside) / folder.name
        draft.mkdir()
        for ref in inputs:
            artifact = store.get(ref)
            target = draft / ARTIFACTS / str(ref)
            _copy_outputs(artifact, target)
            (target / RECORD).write_text(artifact.record.model_dump_json(indent=1), encoding="utf-8")
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
        bundle = Bundle.model_validate_json((folder / STEPS).read_bytes())
    except OSError as error:
        raise UserError(f"{folder} is not a bundle: {STEPS}: {error.strerror}.", "`tlm export` writes one.") from error
    except ValidationError as error:
        raise UserError(f"{folder / STEPS} does not hold steps ({first_fault(error)}).") from error
    ours = all(step.stage in STAGES and step.version == STAGES[step.stage].version for step in bundle.steps)
    if not ours or bundle.keys != tuple(step.key for step in bundle.steps):
        raise UserError(f"{folder} was written by another version of this code.", "Use the checkout it was made with.")
    return bundle


def _inputs_from_outside(made: Collection[Step] | Collection[Record]) -> list[ArtifactRef]:
    own = {each.key for each in made}
    return list({ref.key: ref for each in made for ref in each.inputs.values() if ref.key not in own}.values())


def _is_complete(store: ArtifactStore, ref: ArtifactRef) -> bool:
    return store.inspect(ref).status == "complete"


def _copy_outputs(artifact: Artifact, target: Path) -> None:
    for name in artifact.record.outputs:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(artifact.path(name), target / name)


# --- coming home ---


@dataclass(frozen=True)
class Survey:
    """What a folder of artifacts would bring to a store.

    `new` artifacts are sorted so that each comes after its inputs, `present` ones are in the store already, and `refused`
    gives for the name (stage/slug-key) of each other one the reason.
    """

    source: ArtifactStore
    new: tuple[Record, ...]
    present: tuple[Record, ...]
    refused: dict[str, str]


@dataclass(frozen=True)
class Imported:
    """What an import did: the artifacts it copied, those that were there before, and those it refused, as in `Survey`."""

    imported: tuple[ArtifactRef, ...]
    present: tuple[ArtifactRef, ...]
    refused: dict[str, str]


Track = Callable[[Step, Record], AbstractContextManager[dict[str, str] | None]]
"""A context entered before an artifact's record is written and left once the artifact is in place.

It yields the `mlflow` field of that record.
"""


class Refused(Exception):
    """An artifact that is not imported; the message is the reason."""


def import_records(folder: Path, store: ArtifactStore, *, closed: bool = True, track: Track | None = None) -> Imported:
    """Copy every sound artifact under `folder` (or its `data/artifacts`) that the store lacks; see `survey`."""
    return copy_new(survey(folder, store, closed=closed), store, track)


def survey(folder: Path, store: ArtifactStore, *, closed: bool = True) -> Survey:
    """Check every artifact under `folder`, including the digests of its files. This writes nothing.

    Args:
        closed: refuse an artifact whose inputs are neither in the store nor, sound, in the folder.

    Raises:
        UserError: if there are no artifacts.
    """
    source = ArtifactStore(str(_artifacts_in(folder)))
    sound, refused = _read_all(source)
    if not sound and not refused:
        raise UserError(f"There are no artifacts in {folder}.", f"Give a folder like {ARTIFACTS}, or one that has it.")
    present = {key: record for key, record in sound.items() if _is_complete(store, record.ref)}
    lacking = [record for key, record in sound.items() if key not in present]
    available = {ref.key for ref in _inputs_from_outside(lacking) if not closed or _is_complete(store, ref)}
    new, incomplete = _in_order(lacking, available)
    for record, ref in incomplete:
        refused[str(record.ref)] = f"its input {ref} is neither in the store nor, whole, in the folder"
    return Survey(source, tuple(new), tuple(present.values()), refused)


def _in_order(records: list[Record], available: set[str]) -> tuple[list[Record], list[tuple[Record, ArtifactRef]]]:
    """Sort records so that each comes after its inputs, where the keys in `available` need no record.

    Returns the sorted records, and each record that lacks an input together with the first input it lacks.
    """
    of = {record.key: record for record in records}
    ordered: list[Record] = []
    incomplete: list[tuple[Record, ArtifactRef]] = []
    there = set(available)
    for key in in_order({key: record.input_keys.values() for key, record in of.items()}):
        missing = [ref for ref in of[key].inputs.values() if ref.key not in there]
        if missing:
            incomplete.append((of[key], missing[0]))
        else:
            ordered.append(of[key])
            there.add(key)
    return ordered, incomplete


def copy_new(found: Survey, store: ArtifactStore, track: Track | None = None) -> Imported:
    """Copy the artifacts that a survey found to be new into the store, each one whole and after its inputs."""
    imported, present = [], [record.ref for record in found.present]
    for record in found.new:
        step = Step(
            stage=record.stage,
            version=record.version,
            config=record.config,
            inputs=record.inputs,
            slug=record.slug,
            labels=record.labels,
        )
        with store.lock(step.ref):
            if _is_complete(store, step.ref):  # made here in the meantime
                present.append(step.ref)
                continue
            with store.draft(step.ref) as draft, track(step, record) if track else nullcontext() as mlflow:
                _copy_outputs(found.source.get(step.ref), draft)
                store.adopt(record.model_copy(update={"mlflow": mlflow}), draft)
            imported.append(step.ref)
    return Imported(tuple(imported), tuple(present), found.refused)


def _artifacts_in(folder: Path) -> Path:
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder.", "Give the folder that came back.")
    root = folder.resolve()
    place = root / ARTIFACTS if (root / ARTIFACTS).is_dir() else root
    if not place.resolve().is_relative_to(root):
        raise UserError(f"{place} leads outside {root}.", "Give the folder that the artifacts lie in.")
    return place


def _read_all(source: ArtifactStore) -> tuple[dict[str, Record], dict[str, str]]:
    """The records of all sound artifacts by key, and why the others are refused, by name."""
    sound, refused = {}, {}
    for found in _candidates(Path(source.root)):
        try:
            record = _sound_record(source, found)
            sound[record.key] = record
        except Refused as reason:
            refused[f"{found.parent.name}/{found.name}"] = str(reason)
    return sound, refused


def _candidates(place: Path) -> Iterator[Path]:
    """Folders that are, or claim to be, artifacts: `<stage>/<name>` of a known stage, or with a record."""
    for stage in sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith(".")):
        for found in sorted(stage.iterdir()):
            if found.is_dir() and (stage.name in STAGES or (found / RECORD).exists()):
                yield found


def _sound_record(source: ArtifactStore, found: Path) -> Record:
    """The record of an artifact that is in the right folder and agrees with its record. Raises Refused."""
    try:
        _refuse_links(found)
        record = Record.model_validate_json((found / RECORD).read_bytes())
        _refuse_foreign(record, f"{found.parent.name}/{found.name}")
        inspected = source.inspect(record.ref)
    except FileNotFoundError:
        raise Refused(f"{RECORD} is missing") from None
    except ValidationError as error:
        raise Refused(f"{RECORD} is not a record ({first_fault(error)})") from error
    except (OSError, TypeError) as error:  # unreadable; or a config that has no canonical JSON, and so no key
        raise Refused(str(error)) from error
    if inspected.status != "complete":
        raise Refused(inspected.reason)
    return record


def _refuse_links(found: Path) -> None:
    for path in (found.parent, found, *found.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise Refused(f"{path.name} is a link or no plain file")


def _refuse_foreign(record: Record, name: str) -> None:
    """Refuse what this code could not have made under this name, before any path is built from the record's words."""
    if record.stage not in STAGES:
        raise Refused(f"unknown stage {record.stage!r}")
    if record.version != STAGES[record.stage].version:
        raise Refused(f"made by version {record.version} of its stage; this code has {STAGES[record.stage].version}")
    for ref in (record.ref, *record.inputs.values()):
        if ref.stage not in STAGES:
            raise Refused(f"{RECORD} names {str(ref)!r}, which no artifact is called")
    if str(record.ref) != name:
        raise Refused(f"{RECORD} is that of {record.ref}")
