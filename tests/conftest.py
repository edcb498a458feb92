"""What every test module may ask for. Helpers to import are in helpers.py: sub-folders have a conftest of their own."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import shell
from helpers import Mini, mini_study, stages_of_tests_are_unknown, write_mini_data
from hypothesis import settings

from tlm.artifacts.store import ArtifactStore
from tlm.planning.plan import Plan, plan

shell.set_aside()  # before any test module is imported: libraries read some of it only then
gc.disable()  # until then: what importing makes stays, and would be searched for garbage again and again

# An example takes milliseconds, but other processes may take the core for longer than hypothesis's limit of 200 of them.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Fast tests share the cores, a thread each. Slow ones start processes of their own: two at a time at most."""
    if "not slow" not in config.option.markexpr:
        return 2 if "slow" in config.option.markexpr else 0
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers start from this environment
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """What importing the test modules made stays to the end: no garbage is searched for in it."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="module", autouse=True)
def _stages_of_other_tests_are_unknown(request: pytest.FixtureRequest) -> Iterator[None]:
    """A stage that a test module adds is known from then on, and modules are imported before any test runs."""
    with stages_of_tests_are_unknown(but=request.module.__name__):
        yield


@pytest.fixture(autouse=True)
def _environment_as_before() -> Iterator[None]:
    """What a command puts into the environment of its process is not there in the next test."""
    before = {**os.environ}
    yield
    for name in {**os.environ}.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


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
