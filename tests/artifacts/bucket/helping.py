"""What the tests of object stores share beside their fixtures."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from tlm.artifacts.bucket import Bucket
from tlm.artifacts.listing import outputs_of
from tlm.artifacts.record import Record
from tlm.artifacts.store import ArtifactStore


def on_machine(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on this process works on another machine: one with other locks, drafts and fetched files."""
    (tmp_path / name).mkdir(exist_ok=True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))


def bucket_of(store: ArtifactStore) -> Bucket:
    assert isinstance(store.shelf, Bucket)
    return store.shelf


def folder_of(store: ArtifactStore, record: Record) -> str:
    return f"{store.root}/{record.ref}"


def outputs(store: ArtifactStore, record: Record) -> str:
    return outputs_of(folder_of(store, record), record)


def objects(store: ArtifactStore) -> set[str]:
    return {path.removeprefix(f"{store.root}/") for path in bucket_of(store)._find(store.root)}


def no_answer(*_: Any, **__: Any) -> Any:
    raise RuntimeError("connection refused")
