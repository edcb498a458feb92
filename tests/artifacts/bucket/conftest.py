"""An object store, in memory and (slow) SeaweedFS, seen from a machine of the test's own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from artifacts.bucket.helping import on_machine
from artifacts.object_stores import seaweed

from tlm.artifacts.store import ArtifactStore


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with seaweed(tmp_path_factory.mktemp("weed")) as store:
        yield store.environment


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    on_machine("here", tmp_path, monkeypatch)
    if request.param == "memory":
        yield f"memory://{uuid.uuid4().hex}"
        fsspec.filesystem("memory").store.clear()
        return
    for name, value in request.getfixturevalue("server").items():
        monkeypatch.setenv(name, value)
    yield f"s3://tlm-test/{uuid.uuid4().hex}"


@pytest.fixture
def store(url: str) -> ArtifactStore:
    return ArtifactStore(url)
