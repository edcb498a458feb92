"""Artifacts that another machine made come home. They are foreign: nothing is taken that its own record does not prove."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from tlm.artifacts.inspection import Inspection
from tlm.artifacts.lineage import in_order
from tlm.artifacts.record import RECORD, Record
from tlm.artifacts.step import ArtifactRef, Step
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.execution.bundle import ARTIFACTS, copy_outputs, inputs_from_outside
from tlm.machine.files import reason
from tlm.stages import STAGES


@dataclass(frozen=True)
class Survey:
    """What a folder of artifacts would bring to a store.

    `new` artifacts are sorted so that each comes after its inputs: those that the store lacks, and those that bring weights
    which it lacks. `present` ones are in the store already, and `refused` gives for the name (stage/slug-key) of each other
    one the reason.
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


Trial = Callable[[ArtifactStore, Sequence[Record]], Mapping[str, str]]
"""Tries artifacts of another store beside a store's own: by name, those that cannot be used there, and why."""


class Refused(Exception):
    """An artifact that is not imported; the message is the reason."""


def import_records(folder: Path, store: ArtifactStore, *, closed: bool = True, track: Track | None = None) -> Imported:
    """Copy every sound artifact under `folder` (or its `data/artifacts`) that the store lacks; see `survey`.

    Pages too (`tlm.execution.pages`): it is for a folder that nobody else had in their hands.
    """
    return copy_new(survey(folder, store, closed=closed), store, track)


def survey(folder: Path, store: ArtifactStore, *, closed: bool = True, trial: Trial | None = None) -> Survey:
    """Check every artifact under `folder`, including the digests of its files. This writes nothing.

    Args:
        closed: refuse an artifact whose inputs are neither in the store nor, sound, in the folder.
        trial: refuse what cannot be used beside what the store holds; given the folder's store, and what is new of it.

    Raises:
        UserError: if there are no artifacts.
    """
    source = ArtifactStore(str(_artifacts_in(folder)))
    sound, refused = _read_all(source)
    if not sound and not refused:
        raise UserError(f"There are no artifacts in {folder}.", f"Give a folder like {ARTIFACTS}, or one that has it.")
    here = store.inspect_each(record.ref for record in sound.values())
    refused |= {str(sound[key].ref): why for key, seen in here.items() if (why := _contradicts(seen, sound[key]))}
    sound = {key: record for key, record in sound.items() if str(record.ref) not in refused}
    present = tuple(record for key, record in sound.items() if _holds(here[key], record))
    unreadable = {str(r.ref): here[key].reason for key, r in sound.items() if here[key].status == "unreadable"}
    refused |= {name: f"in the store it cannot be read: {why}" for name, why in unreadable.items()}
    lacking = [r for r in sound.values() if not _holds(here[r.key], r) and here[r.key].status != "unreadable"]
    if trial is not None:
        unfit = trial(source, lacking)
        refused |= unfit
        lacking = [record for record in lacking if str(record.ref) not in unfit]
    available = {ref.key for ref in inputs_from_outside(lacking) if not closed or _is_complete(store, ref)}
    new, incomplete = _in_order(lacking, available)
    for record, ref in incomplete:
        refused[str(record.ref)] = f"its input {ref} is neither in the store nor, whole, in the folder"
    return Survey(source, tuple(new), present, refused)


def _holds(here: Inspection, record: Record) -> bool:
    """Whether the store has an artifact, with every file that this record of it would bring."""
    return here.status == "complete" and here.record is not None and not here.record.left_behind.keys() & record.outputs


def _contradicts(here: Inspection, record: Record) -> str:
    """Why files would not go with results that are in the store without weights; "" if they do."""
    if here.status != "complete" or here.record is None or _holds(here, record):
        return ""
    known = {**here.record.left_behind, **here.record.outputs}
    other = [name for name, output in record.outputs.items() if known.get(name) not in (None, output)]
    return f"{other[0]} is another than that of the artifact that is here without weights" if other else ""


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
            if _holds(store.inspect(step.ref), record):  # made here in the meantime
                present.append(step.ref)
                continue
            with store.draft(step.ref) as draft, track(step, record) if track else nullcontext() as mlflow:
                copy_outputs(found.source.get(step.ref), draft)
                store.adopt(record.model_copy(update={"mlflow": mlflow}), draft)
            imported.append(step.ref)
    return Imported(tuple(imported), tuple(present), found.refused)


def _artifacts_in(folder: Path) -> Path:
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder.", "Give the folder, or the archive, that came back.")
    root = folder.resolve()
    place = root / ARTIFACTS if (root / ARTIFACTS).is_dir() else root
    if not place.resolve().is_relative_to(root):
        raise UserError(f"{place} leads outside {root}.", "Give the folder that the artifacts lie in.")
    return place


def _read_all(source: ArtifactStore) -> tuple[dict[str, Record], dict[str, str]]:
    """The records of all sound artifacts by key, and why the others are refused, by name."""
    sound, refused = {}, {}
    for name, seen in source.inspect_all(verify=lambda record, file: True):
        try:
            record = _sound_record(Path(source.root), name, seen)
            if record is not None:
                sound[record.key] = record
        except Refused as why:
            refused[name] = str(why)
    return sound, refused


def _sound_record(root: Path, name: str, seen: Inspection) -> Record | None:
    """The record of an artifact that is whole, in the right folder and of this code; None if it claims to be none.

    Raises:
        Refused: saying what is wrong.
    """
    folder = root / name
    try:
        if name.partition("/")[0] not in STAGES and not os.path.lexists(folder / RECORD):
            return None
        _refuse_links(folder)
    except OSError as error:
        raise Refused(reason(error)) from error
    if seen.record is not None:
        _refuse_foreign(seen.record, name)
    if seen.status != "complete" or seen.record is None:
        raise Refused(seen.reason)
    return seen.record


def _refuse_links(found: Path) -> None:
    for path in (found.parent, found, *found.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise Refused(f"{path.name} is a link or no plain file")


def _refuse_foreign(record: Record, name: str) -> None:
    """Refuse what this code could not have made under this name."""
    if record.stage not in STAGES:
        raise Refused(f"unknown stage {record.stage!r}")
    if record.version != STAGES[record.stage].version:
        raise Refused(f"made by version {record.version} of its stage; this code has {STAGES[record.stage].version}")
    for ref in (record.ref, *record.inputs.values()):
        if ref.stage not in STAGES:
            raise Refused(f"{RECORD} names {str(ref)!r}, which no artifact is called")
    if str(record.ref) != name:
        raise Refused(f"{RECORD} is that of {record.ref}")
    if fault := STAGES[record.stage].fault(record):
        raise Refused(fault)


def _is_complete(store: ArtifactStore, ref: ArtifactRef) -> bool:
    return store.inspect(ref).status == "complete"
