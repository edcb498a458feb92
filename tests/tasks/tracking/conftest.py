"""MLflow's database takes seconds to make: once, to be copied into the homes of tests."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from helpers import mini_study, write_mini_data
from tracked_home import Home

from tlm.artifacts.step import Step
from tlm.machine.runtime import Runtime
from tlm.planning.plan import plan


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database in whose folder somebody was killed before he put it in place."""
    from tasks.tracking import connecting
    from tasks.tracking import database as module

    connecting.set_up()
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    killed = os.fork()
    if not killed:
        os.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        module.ensure(path, path.parent / "artifacts", connecting.EXPERIMENT)
        os._exit(0)
    assert os.waitpid(killed, 0)[1] == signal.SIGKILL
    assert not path.exists() and list(path.parent.glob(f"{module.ASIDE}*")), "killed too early or too late"
    module.ensure(path, path.parent / "artifacts", connecting.EXPERIMENT)
    assert [each.name for each in path.parent.iterdir()] == ["mlflow.db"], "what the dead left is removed"
    return path


@pytest.fixture
def runtime(database: Path, tmp_path: Path) -> Runtime:
    """A home with a database of its own, and nothing in it."""
    made = Runtime(home=str(tmp_path / "home"), data_root=str(tmp_path / "raw"), isolate=False)
    made.mlflow_folder.mkdir(parents=True)
    shutil.copyfile(database, made.mlflow_folder / "mlflow.db")
    return made


@pytest.fixture(scope="session")
def steps(tmp_path_factory: pytest.TempPathFactory) -> list[Step]:
    """Tokens, a corpus of them, and what tokens are made from."""
    made = plan(mini_study(), str(write_mini_data(tmp_path_factory.mktemp("data")))).steps
    corpus = next(step for step in made if step.stage == "corpus")
    [tokens] = [step for step in made if step.key in corpus.input_keys.values() and step.stage == "tokens"]
    return [tokens, corpus, *(step for step in made if step.key in tokens.input_keys.values())]


@pytest.fixture
def home(runtime: Runtime, steps: list[Step]) -> Home:
    """One that has what tokens are made from, untracked."""
    made = Home(runtime)
    for step in steps[2:]:
        made.publish(step, None)
    return made
