"""A task runner from outside the package: the environment names it, and a whole study runs on it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from helpers import mini_tree, python, write_mini_data

LAB = """
from pathlib import Path

from prefect.task_runners import ThreadPoolTaskRunner
from tasks.engines import ENGINES, Engine


class Counting(ThreadPoolTaskRunner):
    def submit(self, task, *given, **more):
        with (Path(__file__).parent / "submitted").open("a") as file:
            file.write(f"{task.name}\\n")
        return super().submit(task, *given, **more)


class Lab(Engine):
    def task_runner(self, runtime):
        return Counting(max_workers=2)


ENGINES.register("lab", Lab())
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    write_mini_data(tmp_path / "data")
    (tmp_path / "mini.yaml").write_text(yaml.safe_dump(mini_tree()))
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "toy_engine.py").write_text(LAB)
    path = os.pathsep.join((str(Path(__file__).parents[2]), str(tmp_path / "lab")))
    places = {"TLM_HOME": str(tmp_path / "home"), "TLM_DATA_ROOT": str(tmp_path / "data"), "PYTHONPATH": path}
    return {**places, "TLM_EXTENSIONS": "toy_engine", "TLM_ENGINE": "lab"}


@pytest.mark.slow
def test_a_study_runs_on_it_and_again_executes_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    def tlm(*arguments: str) -> str:
        done = python(["-m", "flows.cli", *arguments], cwd=tmp_path, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "steps" in tlm("plan", "mini.yaml", "--no-time")
    assert "33 stages executed" in tlm("run", "mini.yaml")
    submitted = (tmp_path / "lab" / "submitted").read_text().split()
    assert {"source", "pretrain", "committee", "report"} <= set(submitted)
    assert "0 stages executed" in tlm("run", "mini.yaml")
    assert "finetune" in tlm("sql", "select distinct kind from results")


@pytest.mark.slow
def test_an_unknown_one_is_named_before_any_work(tmp_path: Path, environment: dict[str, str]) -> None:
    given = {**environment, "TLM_ENGINE": "steam"}
    done = python(["-m", "flows.cli", "run", "mini.yaml"], cwd=tmp_path, **given)
    assert done.returncode != 0
    assert "TLM_ENGINE: unknown engine 'steam'; choose from ['lab', 'ray', 'threads']" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "home" / "data" / "artifacts").exists()
