"""How extensions become known to every process: by the environment, or as installed packages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import mini_study, only, python

from tlm.artifacts.step import Step
from tlm.errors import UserError
from tlm.execution.execute import Outcome, execute
from tlm.machine import extensions
from tlm.machine.runtime import Runtime
from tlm.planning.plan import plan

LAB = """
from typing import Literal
import torch
from tlm.study.config import Optimizer

class Plain(Optimizer):
    kind: Literal["lab-sgd"] = "lab-sgd"

    def build(self, model, config):
        return torch.optim.SGD(model.parameters(), lr=config.learning_rate)
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path with a module that extends tlm."""
    folder = tmp_path / "lab"
    folder.mkdir()
    (folder / "toy_lab.py").write_text(LAB)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv(extensions.VARIABLE, "toy_lab")
    extensions.load_extensions.cache_clear()
    yield folder
    extensions.load_extensions.cache_clear()
    sys.modules.pop("toy_lab", None)


@pytest.mark.slow
def test_an_extension_named_in_the_environment_trains_in_a_child_process(
    lab: Path, mini_data: Path, tmp_path: Path
) -> None:
    runtime = Runtime(home=str(tmp_path / "home"), data_root=str(mini_data), isolate=True)
    planned = plan(mini_study(pretrain__optimizer="lab-sgd"), str(mini_data))
    step, of = only(planned, "pretrain", ws=60, arch="one"), {step.key: step for step in planned.steps}

    def make(step: Step) -> Outcome:
        for key in step.input_keys.values():
            make(of[key])
        return execute(step, runtime)

    assert make(step).record.facts["steps"] == 6
    assert step.config["pretrain"]["optimizer"] == {"kind": "lab-sgd"}


def test_an_installed_package_extends_by_an_entry_point(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(extensions.VARIABLE)
    metadata = lab / "toy_lab-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-lab\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[tlm.extensions]\nlab = toy_lab\n")
    assert "toy_lab" in extensions.load_extensions()


def test_importing_the_library_imports_no_extension() -> None:
    """An extension imports the library: it must not meet it half imported."""
    done = python("import tlm.execution.bundle, tlm.execution.importing, tlm.sequential", TLM_EXTENSIONS="not_there")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("named", "problem"), [("no_such_lab", "cannot be imported: No module named"), ("../lab", "which is no module")]
)
def test_an_extension_that_cannot_be_imported_is_the_users_error(
    named: str, problem: str, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(extensions.VARIABLE, f"toy_lab, {named}")
    with pytest.raises(UserError, match=f"TLM_EXTENSIONS names .*{problem}"):
        mini_study(pretrain__optimizer="not-there")


@pytest.mark.parametrize(
    ("text", "problem"), [("def f(:", "SyntaxError"), ("raise NameError('oops')", "NameError: oops")]
)
def test_an_extension_that_fails_is_the_users_error(
    text: str, problem: str, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lab / "failing_lab.py").write_text(text)
    monkeypatch.setenv(extensions.VARIABLE, "toy_lab,failing_lab")
    with pytest.raises(UserError, match=f"TLM_EXTENSIONS names the module failing_lab, which fails: {problem}"):
        mini_study(pretrain__optimizer="not-there")


def test_what_the_package_has_is_planned_with_without_torch() -> None:
    code = (
        "import sys; from tlm.study.config import Objective, Optimizer; from tlm.study.families import FAMILIES; "
        "[registry[name] for registry in (FAMILIES, Objective.registry, Optimizer.registry) for name in registry.names()]; "
        "print(sorted({'torch', 'transformers'} & {*sys.modules}))"
    )
    done = python(code)
    assert done.stdout.strip() == "[]", done.stderr
