"""Artifacts on disk or in an object store: built aside, published whole, checked before use.

An artifact is the folder `<stage>/<slug>-<key12>/` with its outputs and a `record.json` that was written last. A folder
without a valid record does not exist. Records are the source of truth: Prefect's results, the DuckDB catalogue and
MLflow are views of them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import fsspec
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from tlm.artifacts.fingerprint import SHORT, file_digest, step_key
from tlm.artifacts.step import ArtifactRef, Key, Label, Slug, StageName, Step

RECORD = "record.json"
DRAFTS = ".drafts"
LOCKS = ".locks"
CHECKPOINTS = ".checkpoints"


def _plain_path(name: str) -> str:
    path = PurePosixPath(name)
    if not path.name or path.is_absolute() or str(path) != name or "\0" in name or {"..", RECORD} & set(path.parts):
        raise ValueError(f"{name!r} leads outside or over the record")
    return name


def _with_time_zone(time: str) -> str:
    if datetime.fromisoformat(time).tzinfo is None:
        raise ValueError(f"{time} has no time zone")
    return time


class Output(BaseModel):
    """The digest and size of one file of an artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    sha256: str
    bytes: int


class Record(BaseModel):
    """The description stored beside every artifact; `facts` are small results of its stage (accuracy, sizes, …)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    stage: StageName
    version: str
    key: Key
    slug: Slug
    config: dict[str, Any]
    inputs: dict[str, ArtifactRef]
    labels: dict[str, Label]
    outputs: dict[Annotated[str, AfterValidator(_plain_path)], Output]
    facts: dict[str, Any]
    provenance: dict[str, Any]
    created: Annotated[str, AfterValidator(_with_time_zone)]
    seconds: float
    mlflow: dict[str, str] | None = None

    @property
    def ref(self) -> ArtifactRef:
        return ArtifactRef(stage=self.stage, key=self.key, slug=self.slug)

    @property
    def input_keys(self) -> dict[str, str]:
        return {name: ref.key for name, ref in self.inputs.items()}


@dataclass(frozen=True)
class Inspection:
    """What the store holds under a key: `reason` says what is wrong with a damaged artifact."""

    status: Literal["complete", "missing", "damaged"]
    record: Record | None = None
    reason: str = ""


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


class ArtifactStore:
    """All artifacts under one fsspec URL (or local path)."""

    def __init__(self, url: str) -> None:
        self.fs, self.root = fsspec.url_to_fs(url)
        self.is_local = "file" in ([self.fs.protocol] if isinstance(self.fs.protocol, str) else self.fs.protocol)

    # --- reading ---

    def inspect(self, ref: ArtifactRef, *, verify: bool = True) -> Inspection:
        """Look for an artifact by key (the slug may differ); with `verify`, hash every output."""
        folder = self._find(ref)
        if folder is None:
            return Inspection("missing")
        try:
            record = Record.model_validate_json(self.fs.cat_file(f"{folder}/{RECORD}"))
        except FileNotFoundError:  # removed by hand, or a deletion that was killed half way
            return Inspection("damaged", reason=f"{RECORD} is missing")
        except ValidationError as error:
            return Inspection("damaged", reason=f"{RECORD} is not a record ({first_fault(error)})")
        made_of = (record.stage, record.version, record.config, record.input_keys)
        if record.key != ref.key or step_key(*made_of) != ref.key:
            return Inspection("damaged", reason=f"{RECORD} does not describe key {ref.key[:SHORT]}")
        reason = self._check_outputs(folder, record, verify)
        return Inspection("damaged", record, reason) if reason else Inspection("complete", record)

    def get(self, ref: ArtifactRef, *, verify: bool = False) -> Artifact:
        """Return a complete artifact. Raises LookupError if it is missing or damaged."""
        found = self.inspect(ref, verify=verify)
        if found.status != "complete" or found.record is None:
            raise LookupError(f"{ref} is {found.status} {found.reason}".strip())
        return Artifact(self, found.record)

    def records(self) -> Iterator[Record]:
        """Every readable record, sorted by folder. Outputs are not verified, and drafts are passed over."""
        stages = [name.rstrip("/").rsplit("/", 1)[-1] for name in self._folders("")]
        for folder in (folder for stage in stages if not stage.startswith(".") for folder in self._folders(stage)):
            try:
                yield Record.model_validate_json(self.fs.cat_file(f"{folder}/{RECORD}"))
            except (ValidationError, OSError):
                continue

    def local_path(self, record: Record, name: str) -> Path:
        """A local path of one output of an artifact, fetched first if the store is remote.

        Raises:
            KeyError: if the record lists no such output.
            LookupError: if the artifact is gone.
        """
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

    # --- writing ---

    @contextmanager
    def lock(self, ref: ArtifactRef) -> Iterator[None]:
        """Let one process at a time on this machine build a key. The kernel releases the lock however its holder ends."""
        self._locks.mkdir(parents=True, exist_ok=True)
        from filelock import FileLock

        with FileLock(self._locks / f"{ref.key}.lock"):
            yield

    @contextmanager
    def draft(self, ref: ArtifactRef) -> Iterator[Path]:
        """A local folder to build an artifact in, removed afterwards unless it was published. Call with the lock held."""
        base = Path(self.root) / DRAFTS if self.is_local else Path(tempfile.gettempdir()) / "tlm-drafts"
        base.mkdir(parents=True, exist_ok=True)
        for abandoned in base.glob(f"{ref.key[:SHORT]}-*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{ref.key[:SHORT]}-", dir=base))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def checkpoints(self, ref: ArtifactRef) -> Path:
        """A local folder for checkpoints: it outlives an interrupted training and goes once the artifact is published."""
        return self._checkpoints / ref.key[:SHORT]

    @property
    def _checkpoints(self) -> Path:
        if self.is_local:
            return Path(self.root) / CHECKPOINTS
        return Path(tempfile.gettempdir()) / f"tlm-checkpoints-{os.getuid()}"

    def publish(
        self,
        step: Step,
        draft: Path,
        *,
        facts: dict[str, Any],
        provenance: dict[str, Any],
        seconds: float,
        mlflow: dict[str, str] | None = None,
    ) -> Record:
        """Write the record into `draft` and put the whole in place in one move."""
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
            facts=facts,
            provenance=provenance,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(seconds, 3),
            mlflow=mlflow,
        )
        self.adopt(record, draft)
        return record

    def adopt(self, record: Record, draft: Path) -> None:
        """Put a folder that holds all outputs of `record` in place as its artifact. Call with the lock held."""
        (draft / RECORD).write_text(record.model_dump_json(indent=1), encoding="utf-8")
        self.delete(record.ref)
        self._put(draft, f"{self.root}/{record.ref}")
        shutil.rmtree(self.checkpoints(record.ref), ignore_errors=True)

    def delete(self, ref: ArtifactRef) -> bool:
        """Remove an artifact, whole or damaged; the record goes first, so that no reader finds half of one."""
        folder = self._find(ref)
        if folder is None:
            return False
        if self.is_local and os.path.islink(folder):  # what it leads to is not the store's
            os.unlink(folder)
            return True
        if self.fs.exists(f"{folder}/{RECORD}"):
            self.fs.rm_file(f"{folder}/{RECORD}")
        self.fs.rm(folder, recursive=True)
        return True

    def abandoned(self) -> list[Path]:
        """Drafts whose process has died."""
        if not self.is_local:
            return []
        return [d for d in sorted((Path(self.root) / DRAFTS).glob("*")) if not self._is_building(d.name[:SHORT])]

    def idle_checkpoints(self) -> list[Path]:
        """Folders of checkpoints that no living process writes, each named by the beginning of its key."""
        return [c for c in sorted(self._checkpoints.glob("*")) if not self._is_building(c.name)]

    # --- inside ---

    def _is_building(self, short_key: str) -> bool:
        return any(_is_held(lock) for lock in self._locks.glob(f"{short_key}*.lock"))

    @property
    def _locks(self) -> Path:
        return Path(self.root) / LOCKS if self.is_local else Path(tempfile.gettempdir()) / "tlm-locks"

    def _find(self, ref: ArtifactRef) -> str | None:
        exact = f"{self.root}/{ref}"
        if self.fs.exists(exact):
            return exact
        return next((f for f in self._folders(ref.stage) if f.endswith(f"-{ref.key[:SHORT]}")), None)

    def _folders(self, stage: str) -> list[str]:
        """Artifact folders of a stage ("" for the stages' own), sorted. Listed, not globbed: a path may hold any
        character."""
        try:
            return sorted(str(name) for name in self.fs.ls(f"{self.root}/{stage}".rstrip("/"), detail=False))
        except FileNotFoundError:
            return []

    def _check_outputs(self, folder: str, record: Record, verify: bool) -> str:
        for name, output in record.outputs.items():
            path = f"{folder}/{name}"
            if not self.fs.exists(path):
                return f"{name} is missing"
            if self.fs.size(path) != output.bytes:
                return f"{name} has {self.fs.size(path)} bytes, its record says {output.bytes}"
            if verify:
                with self.fs.open(path, "rb") as handle:
                    if file_digest(handle) != output.sha256:
                        return f"{name} differs from the digest in its record"
        return ""

    def _put(self, draft: Path, target: str) -> None:
        if self.is_local:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            os.rename(draft, target)
            return
        files = sorted((p for p in draft.rglob("*") if p.is_file()), key=lambda p: p.name == RECORD)
        for path in files:
            self.fs.makedirs(os.path.dirname(f"{target}/{path.relative_to(draft)}"), exist_ok=True)
            self.fs.put_file(str(path), f"{target}/{path.relative_to(draft)}")


def first_fault(error: ValidationError) -> str:
    """The first field that is wrong, and why, on one line."""
    fault = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    return " ".join(f"{where}: {fault['msg']}".removeprefix(": ").split())


def _is_held(path: Path) -> bool:
    from filelock import FileLock

    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except TimeoutError:
        return True
    lock.release()
    return False
