"""The record beside every artifact: what it is, what it was made from, by whom and when, and the digest of each file.

In its file, `record.json`, it has a digest of its own: what was edited is not believed. Records of format 1, made before
records had one, are *unsealed*: nothing shows whether they were edited. `ArtifactStore.seal` gives them their digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from tlm.artifacts.fingerprint import SHORT, canonical_json, step_key
from tlm.artifacts.step import ArtifactRef, Key, Label, Slug, StageName
from tlm.errors import UserError

RECORD = "record.json"
RECORD_BYTES = 64_000_000
"""The largest record that is read: a report made from 100,000 artifacts has 30 MB."""
SEAL = "sha256"
"""Beside the record's own fields: SHA-256 (hex) of their canonical JSON."""


def _plain_path(name: str) -> str:
    path = PurePosixPath(name)
    if not path.name or path.is_absolute() or str(path) != name or "\0" in name or {"..", RECORD} & set(path.parts):
        raise ValueError(f"{name!r} leads outside or over the record")
    return name


def _with_time_zone(time: str) -> str:
    if datetime.fromisoformat(time).tzinfo is None:
        raise ValueError(f"{time} has no time zone")
    return time


FileName = Annotated[str, AfterValidator(_plain_path)]


class Output(BaseModel):
    """The digest and size of one file of an artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    sha256: str
    bytes: int


class Stored(BaseModel):
    """Where the outputs of an artifact lie in an object store, and the checksums that its listings have of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    attempt: Annotated[str, Field(pattern=r"^[0-9a-f]+$", max_length=64)]
    """The prefix of the outputs, beside the record."""
    checksums: dict[FileName, str]


class Record(BaseModel):
    """The description stored beside every artifact; `facts` are small results of its stage (accuracy, sizes, …)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1, 2] = 2
    stage: StageName
    version: str
    key: Key
    slug: Slug
    config: dict[str, Any]
    inputs: dict[str, ArtifactRef]
    labels: dict[str, Label]
    outputs: dict[FileName, Output]
    left_behind: dict[FileName, Output | None] = Field(default={}, exclude_if=lambda files: not files)
    """Files that it was made with and that are not beside its record: they stayed on the machine that made it, or (None)
    nobody has kept them. Which files may is for its stage to say (`Stage.weights`)."""
    facts: dict[str, Any]
    provenance: dict[str, Any]
    created: Annotated[str, AfterValidator(_with_time_zone)]
    seconds: float
    mlflow: dict[str, str] | None = None
    stored: Stored | None = Field(default=None, exclude_if=lambda stored: stored is None)
    """None on a disk, where outputs lie beside the record."""

    @model_validator(mode="after")
    def _here_or_left_behind(self) -> Self:
        if twice := sorted(self.outputs.keys() & self.left_behind.keys()):
            raise ValueError(f"{', '.join(twice)}: an output, and left behind")
        return self

    @property
    def ref(self) -> ArtifactRef:
        return ArtifactRef(stage=self.stage, key=self.key, slug=self.slug)

    @property
    def input_keys(self) -> dict[str, str]:
        return {name: ref.key for name, ref in self.inputs.items()}

    @property
    def is_sealed(self) -> bool:
        """Whether its file had a digest of it when it was read."""
        return self.format > 1


def leaving(record: Record, names: Iterable[str]) -> Record:
    """The record of the same artifact where these of its outputs are left behind."""
    gone = {name: record.outputs[name] for name in names if name in record.outputs}
    kept = {name: output for name, output in record.outputs.items() if name not in gone}
    return record.model_copy(update={"outputs": kept, "left_behind": {**record.left_behind, **gone}})


def device_of(record: Record) -> str:
    """What made an artifact, as people call it: the GPU by its name if the record has it."""
    return str(record.provenance.get("gpu") or record.provenance.get("device") or "unknown")


def check_here(record: Record, names: Iterable[str]) -> None:
    """Raise UserError if one of these files was left behind, with the ways to have it."""
    for name in names:
        if name not in record.left_behind:
            continue
        again = f"make it again here: `tlm invalidate {record.ref} --yes`, and run the study"
        if record.left_behind[name] is None:
            where, remedy = "was not kept when it was made", f"To have it, {again}."
        else:
            where = "stayed on the machine that made it"
            remedy = f"Bring that machine's whole folder home (`tlm import`), or {again}."
        raise UserError(f"{record.ref} is here without weights: {name} {where} ({device_of(record)}).", remedy)


class NoRecord(ValueError):
    """A file that holds no record to be believed; the message is the reason, on one line."""


def to_file(record: Record) -> bytes:
    """The content of a record's file, sealed."""
    tree = json.loads(record.model_copy(update={"format": 2}).model_dump_json())
    return json.dumps({**tree, SEAL: digest_of(tree)}, indent=1, ensure_ascii=False).encode()


def from_file(content: bytes) -> Record:
    """The record that a file holds.

    Raises:
        NoRecord: if it is none, was edited since it was sealed, or has another key than what it describes.
    """
    try:
        tree = from_json(content, allow_inf_nan=False)
        seal = tree.pop(SEAL, None) if isinstance(tree, dict) else None
        record = Record.model_validate(tree)
        digest = digest_of(tree)
        key = step_key(record.stage, record.version, record.config, record.input_keys)
    except ValidationError as error:
        raise NoRecord(f"{RECORD} is not a record ({first_fault(error)})") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise NoRecord(f"{RECORD} is not a record ({' '.join(str(error).split())})") from error
    if record.is_sealed and seal != digest:
        raise NoRecord(f"{RECORD} was edited: it differs from its own digest")
    if record.key != key:
        raise NoRecord(f"{RECORD} does not describe key {record.key[:SHORT]}")
    return record


def in_time(records: Iterable[Record]) -> list[Record]:
    """Records in the order in which they were made."""
    return sorted(records, key=lambda record: (datetime.fromisoformat(record.created), record.key))


def first_fault(error: ValidationError) -> str:
    """The first field that is wrong, and why, on one line."""
    fault = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    return " ".join(f"{where}: {fault['msg']}".removeprefix(": ").split())


def digest_of(tree: Any) -> str:
    return hashlib.sha256(canonical_json(tree).encode()).hexdigest()
