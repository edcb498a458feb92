"""Prefect's server of a command: its own, in its home, and gone when the command is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from helpers import python, python_environment

SET_UP = """
import os, sys
{before}
from flows.prefect_environment import set_up
from tlm.errors import UserError
from tlm.machine.runtime import Runtime
server = set_up(Runtime(home={home!r}, data_root="/nonexistent"))
"""
ASK = """
from prefect import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_HOME
with get_client(sync_client=True) as client:
    assert client.api_healthcheck() is None
print(PREFECT_API_URL.value() == os.environ["PREFECT_API_URL"], PREFECT_HOME.value(), flush=True)
"""


def test_nothing_is_written_and_nothing_runs_before_it_is_started(tmp_path: Path) -> None:
    code = SET_UP.format(before="", home=str(tmp_path / "home"))
    done = python(
        code + "print('PREFECT_API_URL' in os.environ, 'prefect' in sys.modules); server.wait(); server.stop()"
    )
    assert done.stdout == "False False\n", done.stderr
    assert list(tmp_path.iterdir()) == []


def test_one_that_the_environment_names_is_used_and_none_is_started(tmp_path: Path) -> None:
    code = SET_UP.format(before="", home=str(tmp_path / "home")) + "server.start(); server.wait()\n"
    url = "http://127.0.0.1:1/api"
    done = python(
        f"{code}import psutil; print(os.environ['PREFECT_API_URL'], psutil.Process().children())", PREFECT_API_URL=url
    )
    assert done.stdout == f"{url} []\n", done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("before", ["", "import prefect.context"])
def test_it_answers_in_the_commands_home_and_ends_with_the_command(before: str, tmp_path: Path) -> None:
    """Even where an extension has imported Prefect first."""
    home = tmp_path / "home"
    code = SET_UP.format(before=before, home=str(home)) + "server.start(); server.wait()\n" + ASK + "sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=python_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == f"True {home / 'data' / 'prefect'}\n"
    [server] = psutil.Process(process.pid).children()
    process.communicate()
    assert process.returncode == 0 and not server.is_running()


@pytest.mark.slow
def test_one_that_cannot_start_is_an_error_with_the_way_out(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "data" / "prefect").mkdir(parents=True)
    (home / "data" / "prefect" / "prefect.db").write_bytes(b"no database at all, " * 1000)
    code = SET_UP.format(before="", home=str(home))
    done = python(f"{code}server.start()\ntry:\n    server.wait()\nexcept UserError as error:\n    print(error)")
    assert done.stdout.startswith("Prefect's server does not start: ") and done.stdout.count("\n") == 1, done.stderr
    assert "not a database" in done.stdout and f"remove {home / 'data' / 'prefect'}" in done.stdout
