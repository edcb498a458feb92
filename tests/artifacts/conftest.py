"""The store, on a disk and elsewhere, and a home with a catalogue."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from artifacts.catalogued import path_of, store_of
from helpers import stages_of_tests_are_unknown
from report.synthetic import publish, study

from tlm.artifacts import catalogue
from tlm.artifacts.store import ArtifactStore
from tlm.stages import STAGES


@pytest.fixture(params=["local", "memory"])
def any_store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ArtifactStore]:
    """A local store, and one on a file system that is no disk."""
    if request.param == "local":
        yield ArtifactStore(str(tmp_path / "artifacts"))
        return
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # drafts, locks and fetched files of a remote store
    url = f"memory://{uuid.uuid4().hex}"
    yield ArtifactStore(url)
    fsspec.filesystem("memory").store.clear()


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose path would be a partition, or end a string, to a careless reader; never changed by a test."""
    folder = tmp_path_factory.mktemp("it's {a} home") / "seed=3"
    with stages_of_tests_are_unknown():  # it is made before its module's own fixtures
        publish(study(folder / "raw"), store_of(folder), folder / "raw")
        assert catalogue.build(store_of(folder), path_of(folder), STAGES) == {}
    return folder
