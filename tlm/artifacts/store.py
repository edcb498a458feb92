"""Artifacts on disk or in an object store: built aside, published whole, checked before use.

An artifact is the folder `<stage>/<slug>-<key12>/` with its outputs and a `record.json` that was written last. A folder
without a valid record does not exist. Records are the source of truth: Prefect's results, the DuckDB catalogue and
MLflow are views of them.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import fsspec
from fsspec.implementations.local import LocalFileSystem

from tlm.artifacts.building import BuildingPlace
from tlm.artifacts.fingerprint import SHORT, file_digest
from tlm.artifacts.record import RECORD, RECORD_BYTES, NoRecord, Output, Record, check_here, from_file, to_file
from tlm.artifacts.step import ArtifactRef, Step
from tlm.errors import UserError
from tlm.machine.files import DAMAGE, plain_size, read_plain, reason, remove
from tlm.machine.places import is_url

STAGE_FOLDER = re.compile(r"[a-z0-9][a-z0-9_-]*")
ARTIFACT_FOLDER = re.compile(rf".*-[0-9a-f]{{{SHORT}}}")

Chosen = Callable[[Record, str], bool]
"""Chooses outputs, by the record of their artifact and their names."""


@dataclass(frozen=True)
class Inspection:
    """What the store holds under a key: `reason` says what is wrong with an artifact that is not complete.

    A damaged one is proven to be other than what was made, and is made again. An unreadable one may be whole (this process
    may not read it, or the disk does not answer): it is left alone.
    """

    status: Literal["complete", "missing", "damaged", "unreadable"]
    record: Record | None = None
    """None if there is none to be believed."""
    reason: str = ""

    def check_readable(self, ref: ArtifactRef) -> None:
        """Raise UserError if it is unreadable: to make `ref` anew would remove what may be whole."""
        if self.status == "unreadable":
            remedy = f"Make it readable, or remove it with `tlm invalidate {ref} --yes`."
            raise UserError(f"{ref} cannot be read: {self.reason}.", remedy)


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
        self.fs, root = _file_system(url)
        super().__init__(root, isinstance(self.fs, LocalFileSystem))

    # --- reading ---

    def inspect(self, ref: ArtifactRef, *, verify: bool = True) -> Inspection:
        """Look for an artifact by key (the slug may differ); with `verify`, hash every output."""
        return self._seen(ref, self._find(ref), verify)

    def inspect_each(self, refs: Iterable[ArtifactRef], *, verify: bool = True) -> dict[str, Inspection]:
        """`inspect` of many, by key. A stage's folder is listed once, and not once for each key that is missing."""
        wanted = {ref.key: ref for ref in refs}
        place_of: dict[str, str] = {}
        """The path of every folder of these stages, by itself and by the key in its name."""
        for stage in {ref.stage for ref in wanted.values()}:
            folders = self._folders(stage)
            place_of |= {f"{stage}-{_name(folder).rpartition('-')[2]}": folder for folder in reversed(folders)}
            place_of |= {folder: folder for folder in folders}
        return {
            key: self._seen(
                ref, place_of.get(f"{self.root}/{ref}") or place_of.get(f"{ref.stage}-{key[:SHORT]}"), verify
            )
            for key, ref in wanted.items()
        }

    def inspect_all(self, *, verify: Chosen = lambda record, name: False) -> Iterator[tuple[str, Inspection]]:
        """Everything that is, or claims to be, an artifact, by name (stage/slug-key), sorted. Drafts are passed over, and
        so is what has neither a record nor such a name.

        A folder that is not where its record belongs is no artifact: it is damaged.

        Args:
            verify: which outputs of which artifacts to hash.
        """
        for stage in map(_name, self._folders("")):
            if not self.fs.isdir(f"{self.root}/{stage}"):
                if STAGE_FOLDER.fullmatch(stage):
                    yield stage, Inspection("damaged", reason="it is no folder")
                continue
            for folder in self._folders(stage):
                if not ARTIFACT_FOLDER.fullmatch(_name(folder)) and not self.fs.exists(f"{folder}/{RECORD}"):
                    continue
                seen = self._inspect(folder, verify)
                if seen.record is not None and folder != self._find(seen.record.ref):
                    seen = Inspection("damaged", reason=f"its {RECORD} is that of {seen.record.ref}")
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

        Raises KeyError if the record lists no such output, UserError if it was left behind, LookupError if all is gone.
        """
        check_here(record, [name])
        if name not in record.outputs:
            raise KeyError(f"{record.ref} has no output {name!r}; it has {sorted(record.outputs)}")
        folder = self._find(record.ref)
        if folder is None:
            raise LookupError(f"{record.ref} is missing")
        if self.is_local:
            return Path(folder) / name
        cached = Path(tempfile.gettempdir()) / f"tlm-cache-{os.getuid()}" / record.key / name
        if not cached.exists() or file_digest(cached) != record.outputs[name].sha256:
            cached.parent.mkdir(parents=True, exist_ok=True)
            arriving = cached.with_name(f".{cached.name}-{os.getpid()}-{threading.get_ident()}")
            self.fs.get_file(f"{folder}/{name}", str(arriving))
            os.replace(arriving, cached)
        return cached

    def read(self, path: str, limit: int) -> bytes:
        """A file of at most `limit` bytes, by its path in `fs`. Raises OSError."""
        if self.is_local:
            return read_plain(path, limit)
        if self.fs.size(path) > limit:
            raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes", path)
        return bytes(self.fs.cat_file(path))

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
        """Write the record into `draft` and put the whole in place in one move; `left_behind`: files that nobody keeps."""
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
        self.adopt(record, draft)
        return record

    def adopt(self, record: Record, draft: Path) -> None:
        """Put a folder that holds all outputs of `record` in place as its artifact. Call with the lock held."""
        (draft / RECORD).write_bytes(to_file(record))
        self.delete(record.ref)
        self._put(draft, f"{self.root}/{record.ref}")
        with suppress(OSError):  # what is left is found by `tlm gc`
            remove(self.checkpoints(record.ref))

    def seal(self, ref: ArtifactRef) -> bool:
        """Give the record of a complete artifact the digest that records once had not. Returns whether it had none."""
        with self.lock(ref):
            found, folder = self.inspect(ref), self._find(ref)
            if found.status != "complete" or found.record is None or found.record.is_sealed:
                return False
            place = f"{folder}/{RECORD}"
            self.fs.pipe_file(f"{place}.sealed", to_file(found.record))
            self.fs.mv(f"{place}.sealed", place)
        return True

    def delete(self, ref: ArtifactRef) -> bool:
        """Remove an artifact, whole or damaged; the record goes first, so that no reader finds half of one."""
        folder = self._find(ref)
        if folder is not None:
            self._remove(folder)
        return folder is not None

    def discard(self, name: str) -> None:
        """Remove what `inspect_all` found under a name and nobody can read the record of."""
        self._remove(f"{self.root}/{name}")

    def holds(self, stage: str) -> bool:
        """Whether any artifact of a stage is here, whole or not."""
        return bool(self._folders(stage))

    # --- inside ---

    def _find(self, ref: ArtifactRef) -> str | None:
        exact = f"{self.root}/{ref}"
        if self.fs.exists(exact):
            return exact
        return next((f for f in self._folders(ref.stage) if f.endswith(f"-{ref.key[:SHORT]}")), None)

    def _seen(self, ref: ArtifactRef, folder: str | None, verify: bool) -> Inspection:
        """What lies in the folder that was found for a key."""
        if folder is None:
            return Inspection("missing")
        seen = self._inspect(folder, lambda record, name: verify)
        if seen.record is not None and seen.record.key != ref.key:
            return Inspection("damaged", reason=f"{RECORD} does not describe key {ref.key[:SHORT]}")
        return seen

    def _folders(self, stage: str) -> list[str]:
        """Artifact folders of a stage ("" for the stages' own), sorted, without what is hidden or named as nothing of ours
        could be. Listed, not globbed: a path may hold any character."""
        place = f"{self.root}/{stage}".rstrip("/")
        try:
            found = (
                os.listdir(place) if self.is_local else [_name(f.rstrip("/")) for f in self.fs.ls(place, detail=False)]
            )
            return [f"{place}/{name}" for name in sorted(found) if not name.startswith(".") and name.isprintable()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(f"Cannot read {place}: {reason(error)}.", "It must be a folder of artifacts.") from error

    def _inspect(self, folder: str, verify: Chosen) -> Inspection:
        """What lies in a folder, which its record has to describe."""
        try:
            record = from_file(self.read(f"{folder}/{RECORD}", RECORD_BYTES))
        except NoRecord as error:
            return Inspection("damaged", reason=str(error))
        except OSError as error:  # removed by hand, or a deletion that was killed half way
            return _failed(RECORD, error)
        for name, output in record.outputs.items():
            try:
                wrong = self._fault(f"{folder}/{name}", output, verify(record, name))
            except OSError as error:
                failed = _failed(name, error)
                return Inspection(failed.status, record, failed.reason)
            if wrong:
                return Inspection("damaged", record, f"{name} {wrong}")
        return Inspection("complete", record)

    def _fault(self, path: str, output: Output, verify: bool) -> str:
        """What is wrong with an output; "" if nothing is. Raises OSError if it is none, or cannot be read."""
        size = plain_size(path) if self.is_local else self.fs.size(path)
        if size != output.bytes:
            return f"has {size} bytes, its record says {output.bytes}"
        if verify:
            with self.fs.open(path, "rb") as handle:
                if file_digest(handle) != output.sha256:
                    return "differs from the digest in its record"
        return ""

    def _remove(self, folder: str) -> None:
        if not self.is_local:
            if self.fs.exists(f"{folder}/{RECORD}"):
                self.fs.rm(f"{folder}/{RECORD}", recursive=True)
            self.fs.rm(folder, recursive=True)
            return
        if os.path.isdir(folder) and not os.path.islink(folder):  # what a link leads to is not the store's
            remove(f"{folder}/{RECORD}")
        remove(folder)

    def _put(self, draft: Path, target: str) -> None:
        if self.is_local:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            os.rename(draft, target)
            return
        files = sorted((p for p in draft.rglob("*") if p.is_file()), key=lambda p: p.name == RECORD)
        for path in files:
            self.fs.makedirs(os.path.dirname(f"{target}/{path.relative_to(draft)}"), exist_ok=True)
            self.fs.put_file(str(path), f"{target}/{path.relative_to(draft)}")


def _file_system(url: str) -> tuple[Any, str]:
    """Where a URL or a local path leads, and the path there."""
    if not is_url(url):
        return LocalFileSystem(), url.rstrip("/")  # fsspec would take "::" in a path for an address of its own
    try:
        return fsspec.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise UserError(f"{url} cannot be reached: {error}.", "Point TLM_HOME at a folder.") from error


def _name(folder: str) -> str:
    return folder.rsplit("/", 1)[-1]


def _failed(name: str, error: OSError) -> Inspection:
    """Of an artifact whose file cannot be read."""
    if isinstance(error, FileNotFoundError):
        return Inspection("damaged", reason=f"{name} is missing")
    return Inspection("damaged" if error.errno in DAMAGE else "unreadable", reason=f"{name}: {reason(error)}")
