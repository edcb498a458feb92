"""Tests run alike whatever the user's shell has set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import shell
from helpers import python_environment

ODD = {
    "HF_HUB_OFFLINE": "1",
    "TLM_HOME": "/nowhere",
    "TLM_DEVICE": "cuda",
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
    "PREFECT_API_URL": "http://127.0.0.1:1/api",
    "COLUMNS": "20",
    "NO_COLOR": "1",
    "FORCE_COLOR": "1",
    "LC_ALL": "C",
    "http_proxy": "http://127.0.0.1:1",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def test_what_the_shell_has_set_reaches_no_test_and_no_process_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not [name for name in os.environ if name.startswith(("TLM_", "HF_", "MLFLOW_", "PREFECT_API"))]
    for name, value in ODD.items():
        monkeypatch.setenv(name, value)
    shell.set_aside()
    assert not ODD.keys() & os.environ.keys()
    assert python_environment()["COLUMNS"] == "200" and ODD.keys() & python_environment().keys() == {"COLUMNS"}


def test_real_data_is_known_to_the_tests_on_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLM_DATA_ROOT", "/real")
    monkeypatch.setenv(shell.REAL_DATA, "")
    shell.set_aside()
    assert shell.real_data_root() == "/real" and "TLM_DATA_ROOT" not in os.environ


def test_processes_of_tests_heed_ctrl_c_though_the_shell_started_them_in_the_background() -> None:
    asks = "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    code = f"import shell, subprocess, sys; shell.set_aside(); subprocess.run([sys.executable, '-c', {asks!r}])"
    ignoring = ["bash", "-c", 'trap "" INT; exec "$@"', "bash", sys.executable, "-c"]
    environment = {**python_environment(), "PYTHONPATH": str(Path(shell.__file__).parent)}
    said = [
        subprocess.run([*ignoring, each], env=environment, capture_output=True, text=True).stdout
        for each in (asks, code)
    ]
    assert said == ["True\n", "False\n"]
