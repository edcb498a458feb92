"""`make server`: the Prefect server and the MLflow server, both on loopback, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

from tasks.tracking import prepare
from tlm.errors import UserError
from tlm.machine.runtime import Runtime

HOST = "127.0.0.1"
START_SECONDS = 180


@dataclass(frozen=True)
class Server:
    name: str
    command: list[str]
    health: str
    page: str


def servers(runtime: Runtime, prefect_port: int, mlflow_port: int) -> list[Server]:
    """The two servers; their state is under TLM_HOME."""
    local = runtime.model_copy(update={"tracking_uri": None})
    tracking = prepare(local)
    artifacts = (local.mlflow_folder / "artifacts").resolve().as_uri()
    return [
        Server(
            "Prefect",
            [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(prefect_port)],
            f"http://{HOST}:{prefect_port}/api/health",
            f"http://{HOST}:{prefect_port}",
        ),
        Server(
            "MLflow",
            [
                *(sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(mlflow_port)),
                *("--workers", "1", "--backend-store-uri", tracking, "--artifacts-destination", artifacts),
            ],
            f"http://{HOST}:{mlflow_port}/health",
            f"http://{HOST}:{mlflow_port}",
        ),
    ]


def main() -> None:
    """Start both, say when they answer, and stop both when either ends or the user says so."""
    runtime = Runtime.from_environment()
    runtime.check_writable()
    ports = (int(os.environ.get("TLM_PREFECT_PORT", "4200")), int(os.environ.get("TLM_MLFLOW_PORT", "5000")))
    os.environ.setdefault("PREFECT_HOME", str(runtime.prefect_home))
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    runtime.prefect_home.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    started: list[subprocess.Popen[bytes]] = []
    try:
        for server in servers(runtime, *ports):
            if _answers(server.health):
                raise UserError(f"Something already answers at {server.page}.", "Stop it, or set TLM_*_PORT.")
            started.append(subprocess.Popen(server.command, stdout=subprocess.DEVNULL))
            _await(server, started[-1])
            print(f"{server.name}: {server.page}", flush=True)
        print("Both are up. Ctrl-C stops them.", flush=True)
        while all(process.poll() is None for process in started):
            time.sleep(1)
        raise UserError("A server ended.", "Its last words are above.")
    except KeyboardInterrupt:
        pass
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(timeout=30)


def _await(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _answers(server.health):
        if process.poll() is not None:
            raise UserError(f"The {server.name} server ended with code {process.returncode}.", "See above.")
        if time.monotonic() > deadline:
            raise UserError(f"The {server.name} server does not answer after {START_SECONDS} s.", "See above.")
        time.sleep(0.5)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - loopback, built above
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
