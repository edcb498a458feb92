"""Removing artifacts: those a user no longer trusts (invalidate), and those nothing needs (gc)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tlm.artifacts.fingerprint import SHORT
from tlm.artifacts.inspection import Inspection
from tlm.artifacts.lineage import ancestors, descendants
from tlm.artifacts.record import Record
from tlm.artifacts.step import ArtifactRef
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.machine.files import remove


def select(store: ArtifactStore, selector: str, *, downstream: bool = True, required: bool = True) -> list[Record]:
    """The artifacts that a selector names and, by default, all that were made from them.

    Args:
        selector: a stage ("pretrain"), the beginning of `stage/slug` ("finetune/agnews"), a whole `stage/slug-key` as
            tables print it, or the beginning of a key (6 characters or more).
        required: refuse a selector that names nothing.

    Raises:
        UserError: if it names nothing.
    """
    records = list(store.records())
    chosen = {r.key for r in records if matches(r, selector)}
    if not chosen and required:
        raise UserError(f"No artifact matches {selector!r}.", "Give a stage, a stage/slug or a key; see `tlm plan`.")
    if downstream:
        chosen = descendants({r.key: r.input_keys.values() for r in records}, chosen)
    return [r for r in records if r.key in chosen]


def without_record(store: ArtifactStore, selector: str) -> dict[str, str]:
    """What a selector names of artifacts whose records are not to be believed: by name (stage/slug-key), and why not."""
    found = {name: seen.reason for name, seen in store.inspect_all() if seen.record is None}
    return {name: why for name, why in found.items() if _names(name, selector)}


def _names(name: str, selector: str) -> bool:
    stage, _, folder = name.partition("/")
    key = folder.rpartition("-")[2]
    return (
        selector in (stage, name)
        or ("/" in selector and name.startswith(selector))
        or (len(selector) >= 6 and key.startswith(selector[:SHORT]))
    )


def verify(store: ArtifactStore) -> Iterator[tuple[str, Inspection]]:
    """Check every artifact and the digests of all its files, by name; a record without a digest of its own gets one."""
    for name, seen in store.inspect_all(verify=lambda record, file: True, afresh=True):
        if seen.status == "complete" and seen.record is not None and not seen.record.is_sealed:
            store.seal(seen.record.ref)
        yield name, seen


def matches(record: Record, selector: str) -> bool:
    """Whether a selector (see `select`) names this artifact."""
    by_name = record.stage == selector or f"{record.stage}/{record.slug}".startswith(
        selector + ("" if "/" in selector else "/")
    )
    return by_name or selector == str(record.ref) or (len(selector) >= 6 and record.key.startswith(selector))


@dataclass(frozen=True)
class Garbage:
    """What garbage collection (`tlm gc`) would remove."""

    unreferenced: tuple[ArtifactRef, ...]
    """Artifacts that no study's report was made from."""
    abandoned: tuple[Path, ...]
    """Drafts of processes that have died, and checkpoints from which no training will be resumed."""
    bytes: int
    """The size of all of it."""
    uploads: tuple[str, ...] = ()
    """Files of uploads to an object store that were cut short, and of trainings that will not be resumed; leases and probes
    of processes that have died."""


def find_garbage(store: ArtifactStore, *, keep: set[str] | None = None, hours: float = 0) -> Garbage:
    """Find the artifacts that neither a report nor an artifact with a key in `keep` was made from.

    The checkpoints of an interrupted training are garbage if its artifact has been made since, or if they are older than
    `hours` and their key is not in `keep`.

    Raises:
        UserError: if the record of a report is damaged: nobody knows what it needs.
    """
    keep = keep or set()
    for name, why in without_record(store, "report").items():
        remedy = f"Run its study again, or remove it: `tlm invalidate {name} --yes`."
        raise UserError(f"{name} is damaged ({why}): what it was made from is not known, and may be needed.", remedy)
    records = {record.key: record for record in store.records()}
    reports = {record.key for record in records.values() if record.stage == "report"}
    needed = ancestors({key: record.input_keys.values() for key, record in records.items()}, reports | keep)
    loose = [r for r in records.values() if r.key not in needed]
    made, kept = ({key[:SHORT] for key in keys} for keys in (records, keep))
    left = store.abandoned() + _spent_checkpoints(store, made, kept, hours)
    size = sum(o.bytes for r in loose for o in r.outputs.values())
    folders = [folder for folder in left if not folder.is_symlink()]  # what a link leads to is not the store's
    size += sum(f.lstat().st_size for folder in folders for f in folder.rglob("*") if f.is_file())
    uploads = store.shelf.left_over(kept, hours)
    return Garbage(tuple(r.ref for r in loose), tuple(left), size + sum(uploads.values()), tuple(uploads))


def _spent_checkpoints(store: ArtifactStore, made: set[str], kept: set[str], hours: float) -> list[Path]:
    since = time.time() - hours * 3600
    return [
        c for c in store.idle_checkpoints() if c.name in made or (c.name not in kept and c.lstat().st_mtime < since)
    ]


def recent(store: ArtifactStore, hours: float) -> set[str]:
    """Keys of artifacts made in the last `hours`, which a study that runs elsewhere, or a changed study, may still need."""
    since = datetime.now(UTC) - timedelta(hours=hours)
    return {record.key for record in store.records() if datetime.fromisoformat(record.created) > since}


def collect(store: ArtifactStore, garbage: Garbage) -> None:
    """Remove what was found. An artifact that another process is using is removed once that process is done."""
    for ref in garbage.unreferenced:
        with store.lock(ref):
            store.delete(ref)
    for file in garbage.uploads:
        store.shelf.remove_file(file)
    for folder in garbage.abandoned:  # a training that begins just now does without its checkpoint
        with suppress(OSError):
            remove(folder)
