"""Artifacts on disk or in an object store: built aside, published whole, checked before use.

An artifact is the folder `<stage>/<slug>-<key12>/` with its outputs and a `record.json` that was written last. A folder
without a valid record does not exist. What a folder is depends on the place: `tlm.artifacts.disk`, `tlm.artifacts.bucket`.
Records are the source of truth: Prefect's results, the DuckDB catalogue and MLflow are views of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tlm.artifacts.bucket import Bucket
from tlm.artifacts.building import BuildingPlace
from tlm.artifacts.disk import Disk
from tlm.artifacts.fingerprint import SHORT, file_digest
from tlm.artifacts.inspection import Inspection, failed
from tlm.artifacts.listing import Glance
from tlm.artifacts.record import RECORD, NoRecord, Output, Record, check_here, to_file
from tlm.artifacts.step import ArtifactRef, Step
from tlm.errors import Gone, UserError
from tlm.machine.files import reason, remove
from tlm.machine.places import is_url

STAGE_FOLDER = re.compile(r"[a-z0-9][a-z0-9_-]*")
ARTIFACT_FOLDER = re.compile(rf".*-[0-9a-f]{{{SHORT}}}")

Chosen = Callable[[Record, str], bool]
"""Chooses outputs, by the record of their artifact and their names."""
Shelf = Disk | Glance
"""What is asked about many artifacts: the disk itself, or what a listing of an object store showed."""


class Artifact:
    """A complete artifact, for a stage to read."""

    def __init__(self, store: ArtifactStore, record: Record) -> None:
        self.record = record
        self._store = store

    def path(self, name: str) -> Path:
        """A local path of one of its files (fetched first if the store is remote)."""
        return self._store.local_path(self.record, name)

    def folder(self, names: Iterable[str]) -> Path:
        """A local folder that holds these of its files."""
        return {self.path(name).parent for name in names}.pop()


class ArtifactStore(BuildingPlace):
    """All artifacts under one fsspec URL (or local path)."""

    def __init__(self, url: str) -> None:
        """Raises UserError if nothing can be reached by such a URL."""
        super().__init__(Bucket(url) if is_url(url) else Disk(url.rstrip("/")))

    # --- reading ---

    def inspect(self, ref: ArtifactRef, *, verify: bool = True) -> Inspection:
        """Look for an artifact by key (the slug may differ); with `verify`, hash every output.

        In an object store the sizes and checksums of a listing say whether files are as they were written; they are hashed
        when they are read, and by `inspect_all`.
        """
        shelf, folder = self._look(ref)
        return self._seen(shelf, ref, folder, verify)

    def inspect_each(self, refs: Iterable[ArtifactRef], *, verify: bool = True) -> dict[str, Inspection]:
        """`inspect` of many, by key. A stage's folder is listed once, and not once for each key that is missing."""
        wanted = {ref.key: ref for ref in refs}
        stages = {ref.stage for ref in wanted.values()}
        shelf = self.shelf.glance([f"{self.root}/{stage}" for stage in stages])
        place_of: dict[str, str] = {}
        """The path of every folder of these stages, by itself and by the key in its name."""
        for stage in stages:
            folders = self._folders(shelf, stage)
            place_of |= {f"{stage}-{_name(folder).rpartition('-')[2]}": folder for folder in reversed(folders)}
            place_of |= {folder: folder for folder in folders}
        found = {
            key: place_of.get(f"{self.root}/{ref}") or place_of.get(f"{ref.stage}-{key[:SHORT]}")
            for key, ref in wanted.items()
        }
        shelf.bring([folder for folder in found.values() if folder])
        return {key: self._seen(shelf, ref, found[key], verify) for key, ref in wanted.items()}

    def inspect_all(
        self, *, verify: Chosen = lambda record, name: False, afresh: bool = False
    ) -> Iterator[tuple[str, Inspection]]:
        """Everything that is, or claims to be, an artifact, by name (stage/slug-key), sorted. Drafts are passed over, and
        so is what has neither a record nor such a name.

        A folder that is not where its record belongs is no artifact: it is damaged.

        Args:
            verify: which outputs of which artifacts to hash.
            afresh: hash what an object store has now, although it was fetched from there and verified before.
        """
        shelf = self.shelf.glance([self.root], afresh=afresh)
        shelf.prefetch(verify)
        for stage in map(_name, self._folders(shelf, "")):
            if not shelf.is_folder(f"{self.root}/{stage}"):
                if STAGE_FOLDER.fullmatch(stage):
                    yield stage, Inspection("damaged", reason="it is no folder")
                continue
            for folder in self._folders(shelf, stage):
                if not ARTIFACT_FOLDER.fullmatch(_name(folder)) and not shelf.exists(f"{folder}/{RECORD}"):
                    continue
                seen = self._inspect(shelf, folder, verify)
                if seen.record is not None and folder != self._find(shelf, seen.record.ref):
                    seen = Inspection("damaged", reason=f"its {RECORD} is that of {seen.record.ref}")
                if seen.status == "missing":  # removed since it was listed
                    continue
                yield f"{stage}/{_name(folder)}", seen

    def get(self, ref: ArtifactRef, *, verify: bool = False) -> Artifact:
        """Return a complete artifact. Raises LookupError if it is missing or damaged."""
        found = self.inspect(ref, verify=verify)
        if found.status != "complete" or found.record is None:
            raise LookupError(f"{ref} is {found.status}{f' ({found.reason})' if found.reason else ''}")
        return Artifact(self, found.record)

    def records(self) -> Iterator[Record]:
        """Every record to be believed, sorted by folder. Outputs are not verified, and drafts are passed over."""
        return (seen.record for _, seen in self.inspect_all() if seen.record is not None)

    def local_path(self, record: Record, name: str) -> Path:
        """A local path of one output of an artifact, fetched first if the store is remote.

        What another machine has made again since the record was read, with the same content, is read from there.

        Raises:
            KeyError: if the record lists no such output.
            UserError: if it was left behind.
            Gone: if all is gone, or was made again with other content, or this output is damaged.
        """
        check_here(record, [name])
        if name not in record.outputs:
            raise KeyError(f"{record.ref} has no output {name!r}; it has {sorted(record.outputs)}")
        if path := self.shelf.at_hand(record, name):
            return path
        _, folder = self._look(record.ref)
        if folder is None:
            raise Gone(f"{record.ref} is missing.")
        with suppress(FileNotFoundError):
            return self.shelf.local(folder, record, name)
        now = self.inspect(record.ref, verify=False).record
        if now is None or now.outputs.get(name) != record.outputs[name]:
            raise Gone(f"{record.ref} was {'made again' if now else 'removed'} by another process while it was read.")
        with suppress(FileNotFoundError):
            return self.shelf.local(folder, now, name)
        raise Gone(f"{record.ref} has no {name} any more.")

    # --- writing ---

    def publish(
        self,
        step: Step,
        draft: Path,
        *,
        facts: dict[str, Any],
        provenance: dict[str, Any],
        seconds: float,
        mlflow: dict[str, str] | None = None,
        left_behind: Iterable[str] = (),
    ) -> Record:
        """Put what is in `draft` in place with its record, whole; `left_behind`: files that nobody keeps.

        Returns the record; in an object store it is another machine's, if that one has made the same meanwhile.
        """
        outputs = {
            str(path.relative_to(draft)): Output(sha256=file_digest(path), bytes=path.stat().st_size)
            for path in sorted(draft.rglob("*"))
            if path.is_file()
        }
        record = Record(
            stage=step.stage,
            version=step.version,
            key=step.key,
            slug=step.slug,
            config=step.config,
            inputs=step.inputs,
            labels=step.labels,
            outputs=outputs,
            left_behind=dict.fromkeys(left_behind),
            facts=facts,
            provenance=provenance,
            created=datetime.now(UTC).isoformat(timespec="milliseconds"),
            seconds=round(seconds, 3),
            mlflow=mlflow,
        )
        return self.adopt(record, draft, replace=False)

    def adopt(self, record: Record, draft: Path, *, replace: bool = True) -> Record:
        """Put a folder that holds all outputs of `record` in place as its artifact. Call with the lock held.

        Args:
            replace: whether it takes the place of what another machine has put there meanwhile.
        """
        target = f"{self.root}/{record.ref}"
        if isinstance(self.shelf, Disk):
            record = self.shelf.complete(record, draft)  # first: it fails on a full disk, and what is there stays
            self.delete(record.ref)
            self.shelf.put(draft, target)
        else:
            record = self._upload(self.shelf, record, draft, target, replace)
        with suppress(OSError):  # what is left is found by `tlm gc`
            self.shelf.forget_checkpoints(record.key)
            remove(self.checkpoints(record.ref))
        return record

    def _upload(self, bucket: Bucket, record: Record, draft: Path, target: str, replace: bool) -> Record:
        record = bucket.upload(record, draft, target)
        while True:
            there = self.inspect(record.ref)
            if there.status == "complete" and there.record is not None and not replace:
                bucket.remove_outputs(record, target)
                return there.record
            there.check_readable(record.ref)
            if there.status != "missing":
                self.delete(record.ref)
            if bucket.put_record(record, target):
                return record

    def seal(self, ref: ArtifactRef) -> bool:
        """Give the record of a complete artifact the digest that records once had not. Returns whether it had none."""
        with self.lock(ref):
            found, (_, folder) = self.inspect(ref), self._look(ref)
            if found.status != "complete" or found.record is None or found.record.is_sealed:
                return False
            self.shelf.write(f"{folder}/{RECORD}", to_file(found.record))
        return True

    def delete(self, ref: ArtifactRef) -> bool:
        """Remove an artifact, whole or damaged; the record goes first, so that no reader finds half of one."""
        _, folder = self._look(ref)
        if folder is not None:
            self.shelf.remove(folder)
        return folder is not None

    def discard(self, name: str) -> None:
        """Remove what `inspect_all` found under a name and nobody can read the record of."""
        self.shelf.remove(f"{self.root}/{name}")

    def holds(self, stage: str) -> bool:
        """Whether any artifact of a stage is here, whole or not."""
        return bool(self._folders(self.shelf, stage))

    # --- inside ---

    def _look(self, ref: ArtifactRef) -> tuple[Shelf, str | None]:
        """What to ask about the artifact of a key, and where it lies."""
        exact = f"{self.root}/{ref}"
        shelf = self.shelf.glance([exact])
        if shelf.exists(exact):
            return shelf, exact
        shelf = self.shelf.glance([f"{self.root}/{ref.stage}"])
        return shelf, self._find(shelf, ref)

    def _find(self, shelf: Shelf, ref: ArtifactRef) -> str | None:
        exact = f"{self.root}/{ref}"
        if shelf.exists(exact):
            return exact
        return next((f for f in self._folders(shelf, ref.stage) if f.endswith(f"-{ref.key[:SHORT]}")), None)

    def _seen(self, shelf: Shelf, ref: ArtifactRef, folder: str | None, verify: bool) -> Inspection:
        """What lies in the folder that was found for a key."""
        if folder is None:
            return Inspection("missing")
        seen = self._inspect(shelf, folder, lambda record, name: verify and self.is_local)
        if seen.record is not None and seen.record.key != ref.key:
            return Inspection("damaged", reason=f"{RECORD} does not describe key {ref.key[:SHORT]}")
        return seen

    def _folders(self, shelf: Shelf | Bucket, stage: str) -> list[str]:
        """Artifact folders of a stage ("" for the stages' own), sorted, without what is hidden or named as nothing of ours
        could be. Listed, not globbed: a path may hold any character."""
        place = f"{self.root}/{stage}".rstrip("/")
        try:
            names = sorted(shelf.names(place))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(f"Cannot read {place}: {reason(error)}.", "It must be a folder of artifacts.") from error
        return [f"{place}/{name}" for name in names if not name.startswith(".") and name.isprintable()]

    def _inspect(self, shelf: Shelf, folder: str, verify: Chosen) -> Inspection:
        """What lies in a folder, which its record has to describe.

        Another machine may have made it again after it was listed and before its record was read: what is damaged by an
        older listing is looked at once more.
        """
        seen = self._judge(shelf, folder, verify)
        if seen.status != "damaged" or isinstance(shelf, Disk):
            return seen
        fresh = self.shelf.glance([folder], afresh=shelf.afresh)
        again = self._judge(fresh, folder, verify) if fresh.exists(folder) else Inspection("missing")
        return seen if again.status == "damaged" and again.record == seen.record else again

    def _judge(self, shelf: Shelf, folder: str, verify: Chosen) -> Inspection:
        try:
            record = shelf.record(folder)
        except NoRecord as error:
            return Inspection("damaged", reason=str(error))
        except OSError as error:  # removed by hand, or a deletion that was killed half way
            return failed(RECORD, error)
        for name in record.outputs:
            try:
                wrong = shelf.fault(folder, record, name, verify(record, name))
            except OSError as error:
                seen = failed(name, error)
                return Inspection(seen.status, record, seen.reason)
            if wrong:
                return Inspection("damaged", record, f"{name} {wrong}")
        return Inspection("complete", record)


def _name(folder: str) -> str:
    return folder.rsplit("/", 1)[-1]
