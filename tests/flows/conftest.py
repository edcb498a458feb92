"""What several tests of the command line ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from helpers import Study, Tlm, command_line, mini_tree, write_mini_data


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def tlm(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tlm:
    """Run a command in this process, in an empty TLM_HOME and with the miniature study's data."""
    monkeypatch.setenv("TLM_HOME", str(home))
    monkeypatch.setenv("TLM_DATA_ROOT", str(write_mini_data(tmp_path / "raw")))
    return command_line(monkeypatch, capsys)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    def write(**changes: object) -> str:
        (tmp_path / "mini.yaml").write_text(yaml.safe_dump(mini_tree(**changes)))
        return str(tmp_path / "mini.yaml")

    return write


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model may be loaded."""
    from tlm.inference.models import Classifier

    def load(*_: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(Classifier, "load", load)
