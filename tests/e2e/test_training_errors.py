"""Training that cannot go on, seen from the command line: one line that says what to change, and nothing published."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import mini_tree, python, write_mini_data
from project import Project

from tlm.artifacts.building import DRAFTS
from tlm.execution.execute import execute
from tlm.machine.runtime import Runtime
from tlm.planning.plan import plan
from tlm.study.config import StudyConfig

pytestmark = pytest.mark.slow
GIB = "1.25"
"""A training process holds 0.4 before any batch and 0.2 of compiled code after some; the batch below would take 3."""
WIDE = {"name": "wide", "num_hidden_layers": 2, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024}


def with_batch(size: int) -> dict[str, Any]:
    return mini_tree(
        corpus__sizes=[2_900],
        architectures=[WIDE],
        treatments=[],
        treatment_architectures=None,
        committees=[],
        pretrain={"steps": 12, "batch_size": size, "learning_rate": 1e-3},
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("failing")
    write_mini_data(folder / "data", corpus_rows=3_000)
    (folder / "mini.yaml").write_text(yaml.safe_dump(with_batch(2_900)), encoding="utf-8")
    return Project(folder)


def run(project: Project, *changes: str) -> Any:
    arguments = [part for change in changes for part in ("--set", change)]
    command = ["-m", "flows.cli", "run", str(project.folder / "mini.yaml"), *arguments]
    return python(command, cwd=project.folder, **project.environment, TLM_MEMORY_GIB=GIB)


def expect_one_error(done: Any, project: Project) -> str:
    """Its text, on one line."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert "pretrain" not in {record.stage for record in project.store.records()}
    assert list(Path(project.store.root, DRAFTS).iterdir()) == []
    return str(done.stderr)


def test_a_batch_too_large_for_the_memory_ends_with_one_that_fits_and_it_does(project: Project) -> None:
    said = expect_one_error(run(project), project)
    assert "out of memory on cpu with a batch of 2900 at step " in said
    found = re.search(r"A batch of (\d+) fits: set batch_size: \1\.", said)
    assert found, said
    assert 8 <= int(found[1]) <= 1450
    steps = plan(StudyConfig.model_validate(with_batch(int(found[1]))), str(project.folder / "data")).steps
    home, data = project.environment["TLM_HOME"], project.environment["TLM_DATA_ROOT"]
    runtime = Runtime(home=home, data_root=data, memory_gib=float(GIB))
    assert execute(next(s for s in steps if s.stage == "pretrain"), runtime).status == "executed"


def test_divergence_ends_with_step_learning_rate_and_batch(project: Project) -> None:
    for record in project.store.records():
        if record.stage == "pretrain":
            project.store.delete(record.ref)
    said = expect_one_error(run(project, "pretrain.batch_size=8", "pretrain.learning_rate=1e30"), project)
    assert re.search(r"training diverged: loss is \S+ at step \d+ of 12, learning rate \S+, batch of 8 items", said)
    assert "Lower learning_rate" in said
