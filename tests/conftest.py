"""What every test module may ask for. Helpers to import are in helpers.py: sub-folders have a conftest of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import Mini, mini_study, write_mini_data

from tlm.plan import Plan, plan
from tlm.store import ArtifactStore


@pytest.fixture
def mini_data(tmp_path: Path) -> Path:
    """A data root with the miniature study's files."""
    return write_mini_data(tmp_path / "raw")


@pytest.fixture
def mini_plan(mini_data: Path) -> Plan:
    return plan(mini_study(), str(mini_data))


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "artifacts"))


@pytest.fixture(scope="session")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Mini:
    """The miniature study, run once for every test that only reads it."""
    return Mini(tmp_path_factory.mktemp("mini"))


@pytest.fixture
def own(mini: Mini, tmp_path: Path) -> Mini:
    """A copy of it that a test may damage."""
    return mini.copy(tmp_path)
