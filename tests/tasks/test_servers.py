"""`make server` looks after its servers: one that dies leaves nothing behind and comes again, and the other goes on."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tasks import servers
from tasks.guard import Guard
from tasks.servers import Running, Server
from tlm.errors import UserError

ANSWERING = """
import http.server, os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), child.pid, file=open(sys.argv[2], "w"), flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.mark.slow  # imports MLflow and makes its database
def test_mlflow_is_one_process_whose_runs_are_where_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TLM_HOME", str(tmp_path))
    for name, value in servers.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    port = free_port()
    with running(servers.servers(free_port(), port)[1]) as (mlflow,):
        mlflow.start()
        assert mlflow.process is not None and not psutil.Process(mlflow.process.pid).children(recursive=True)
    page = f"http://127.0.0.1:{port}/#/experiments/1/runs?workflowType=machine_learning"
    assert capsys.readouterr().out == f"MLflow: {page}\n"


def test_the_experiment_that_is_shown_is_that_of_the_runs() -> None:
    from tasks.tracking.connecting import EXPERIMENT

    assert servers.EXPERIMENT == EXPERIMENT


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def server(folder: Path, name: str, code: str = ANSWERING) -> Server:
    port = free_port()
    command = [sys.executable, "-c", code, str(port), str(folder / name)]
    return Server(name, command, f"http://127.0.0.1:{port}/health", f"http://127.0.0.1:{port}")


@contextmanager
def running(*those: Server) -> Iterator[list[Running]]:
    guard = Guard()
    each = [Running(server, guard) for server in those]
    try:
        yield each
    finally:
        guard.end(*(one.process for one in each if one.process is not None))
        guard._process.communicate()


def family(folder: Path, name: str) -> list[psutil.Process]:
    return [psutil.Process(int(number)) for number in (folder / name).read_text().split()]


def kill(those: Running, processes: list[psutil.Process]) -> None:
    """The server's main process alone."""
    processes[0].kill()
    assert those.process is not None
    those.process.wait(60)


@pytest.mark.slow
def test_one_that_is_killed_comes_again_and_the_other_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(server(tmp_path, "first"), server(tmp_path, "second")) as (first, second):
        first.start()
        second.start()
        killed, other = family(tmp_path, "second"), family(tmp_path, "first")
        kill(second, killed)
        for each in (first, second):
            each.look_after()
        assert not psutil.wait_procs(killed, timeout=60)[1], "it left something behind"
        again = family(tmp_path, "second")
        assert all(each.is_running() for each in (*other, *again)) and again[0].pid != killed[0].pid
        said = capsys.readouterr().out
        assert f"second ended with code {-signal.SIGKILL}." in said and said.count("second: http://") == 2
    assert not psutil.wait_procs([*other, *again], timeout=60)[1]


@pytest.mark.slow
def test_one_that_dies_again_and_again_is_given_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(server(tmp_path, "ill")) as (ill,):
        ill.start()
        for _ in range(servers.STARTS):
            assert not ill.given_up
            kill(ill, family(tmp_path, "ill"))
            ill.look_after()
        assert ill.given_up
        ill.look_after()
        said = capsys.readouterr().out
    assert said.count("ill: http://") == servers.STARTS and said.count("stays down") == 1


@pytest.mark.slow
def test_one_that_does_not_start_says_so_and_one_whose_place_is_taken_too(tmp_path: Path) -> None:
    with running(server(tmp_path, "broken", "import sys; sys.exit(7)"), server(tmp_path, "good")) as (broken, good):
        with pytest.raises(UserError, match="The broken server ended with code 7"):
            broken.start()
        good.start()
        with pytest.raises(UserError, match="Something already answers at"):
            Running(good.server, Guard()).start()


def test_one_that_never_answers_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "START_SECONDS", 0.5)
    with running(server(tmp_path, "mute", "import time; time.sleep(600)")) as (mute,):
        with pytest.raises(UserError, match="The mute server does not answer"):
            mute.start()
        assert mute.process is not None and mute.process.poll() is not None


@pytest.mark.parametrize("value", ["abc", "0", "65536", "-1", "²", "9" * 5_000])
def test_a_port_that_is_none_is_refused_before_anything_starts(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TLM_MLFLOW_PORT", value)
    with pytest.raises(UserError, match=f"TLM_MLFLOW_PORT={value} is no port"):
        servers.serve()
    assert not (tmp_path / "home").exists()
