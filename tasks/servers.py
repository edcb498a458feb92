"""`make server`: the Prefect server and the MLflow server, both on loopback, until Ctrl-C.

One that dies is started again, and leaves nothing behind; the other goes on. Neither outlives this process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from tasks import postgres
from tasks.guard import Guard
from tlm.errors import UserError
from tlm.machine import interruption
from tlm.machine.printing import printable
from tlm.machine.runtime import SAFE_PATH, Runtime
from tlm.report.formatting import experiment_url

HOST = "127.0.0.1"
PREFECT_PORT = ("TLM_PREFECT_PORT", "4200")
MLFLOW_PORT = ("TLM_MLFLOW_PORT", "5000")
"""The variable that names a server's port, and the port without it."""
EXPERIMENT = "tlm"
"""As in `tasks.tracking.connecting`, whose import would hold 200 MB here."""
START_SECONDS = 180
ANSWER_SECONDS = 10
STEADY_SECONDS = 60
STARTS = 3
"""How often a server is started that does not run for STEADY_SECONDS."""

ENVIRONMENT = {
    **SAFE_PATH,
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # What nobody stops (its worker was killed) is cancelled after so long; a worker needs up to 40 seconds to stop a run.
    "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_CANCELLING_TIMEOUT_SECONDS": "60",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes that would evaluate prompts
}
"""What the servers run with, unless the environment says otherwise."""


@dataclass(frozen=True)
class Server:
    name: str
    command: list[str]
    health: str
    page: str
    begin: Callable[[str], str] = str
    """Where on its page a person begins, which it may have to be asked once it answers."""


def servers(prefect_port: int, mlflow_port: int) -> list[Server]:
    """The two servers; their state is under TLM_HOME."""
    prefect, mlflow = (f"http://{HOST}:{port}" for port in (prefect_port, mlflow_port))
    return [
        Server(
            "Prefect",
            [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(prefect_port)],
            f"{prefect}/api/health",
            prefect,
        ),
        Server(
            "MLflow",
            [sys.executable, "-m", "tasks.mlflow_server", str(mlflow_port)],
            f"{mlflow}/health",
            mlflow,
            runs_page,
        ),
    ]


def runs_page(url: str) -> str:
    """The page of all runs of an MLflow server; that which it begins with, if it has none."""
    with suppress(OSError, ValueError, KeyError):
        asked = f"{url}/api/2.0/mlflow/experiments/get-by-name?experiment_name={EXPERIMENT}"
        with urllib.request.urlopen(asked, timeout=ANSWER_SECONDS) as response:  # noqa: S310 - loopback
            return experiment_url(url, json.load(response)["experiment"]["experiment_id"])
    return url


class Running:
    """A server, its process, and how often it was started in vain."""

    def __init__(self, server: Server, guard: Guard) -> None:
        self.server = server
        self.given_up = False
        self._guard = guard
        self.process: subprocess.Popen[bytes] | None = None
        self._since = time.monotonic()
        self._starts = 0

    def start(self) -> None:
        """Start it, and wait until it answers. Raises UserError if it does not."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start it. Raises UserError if its place is taken."""
        if _answers(self.server.health):
            raise UserError(f"Something already answers at {self.server.page}.", "Stop it, or set TLM_*_PORT.")
        self._starts += 1
        self._since = time.monotonic()
        self.process = self._guard.start(self.server.command)

    def wait(self) -> None:
        """Wait until it answers, and say where. Raises UserError if it does not."""
        assert self.process is not None
        while not _answers(self.server.health):
            if self.process.poll() is not None:
                raise UserError(f"The {self.server.name} server {self._how_it_ended()}", "See above.")
            if time.monotonic() > self._since + START_SECONDS:
                self._guard.end(self.process)
                raise UserError(f"The {self.server.name} server does not answer after {START_SECONDS} s.", "See above.")
            time.sleep(0.5)
        print(f"{self.server.name}: {self.server.begin(self.server.page)}", flush=True)

    def look_after(self) -> None:
        """If it has died, end what it left behind, and start it again unless that has been in vain."""
        interruption.hold()
        if self.given_up or (self.process is not None and self.process.poll() is None):
            return
        print(f"{self.server.name} {self._how_it_ended()}", flush=True)
        if self.process is not None:
            self._guard.end(self.process)
        if time.monotonic() > self._since + STEADY_SECONDS:
            self._starts = 0
        self.given_up = self._starts >= STARTS
        if self.given_up:
            print(f"{self.server.name} stays down: that was {STARTS} times in a row.", flush=True)
            return
        try:
            self.start()
        except UserError as error:
            print(error, flush=True)

    def _how_it_ended(self) -> str:
        code = None if self.process is None else self.process.poll()
        return "was not started." if code is None else f"ended with code {code}."


def serve() -> None:
    """Start both, say when they answer, and look after them as long as one is up."""
    runtime = Runtime.from_environment()
    runtime.check_writable()
    ports = (_port(*PREFECT_PORT), _port(*MLFLOW_PORT))
    databases = postgres.database_environment()
    postgres.check_databases(databases)
    os.environ.update(databases)
    asked = {"PREFECT_HOME": str(runtime.prefect_home), "PREFECT_UI_API_URL": f"http://{HOST}:{ports[0]}/api"}
    for name, value in {**ENVIRONMENT, **asked}.items():
        os.environ.setdefault(name, value)
    runtime.prefect_home.mkdir(parents=True, exist_ok=True)
    guard = Guard()
    both = [Running(server, guard) for server in servers(*ports)]

    def stop() -> None:
        guard.end(*(each.process for each in both if each.process is not None))

    with interruption.closing(stop), interruption.saying("Both are stopped."):
        try:
            for each in both:
                each.launch()
            for each in both:
                each.wait()
            print("Both are up. Ctrl-C stops them.", flush=True)
            while not all(each.given_up for each in both):
                time.sleep(1)
                for each in both:
                    each.look_after()
            raise UserError("No server is left.", "Their last words are above.")
        finally:
            stop()


def prefect_api() -> str:
    """The address of the Prefect server that runs are sent to: PREFECT_API_URL, or what `make server` starts."""
    return os.environ.get("PREFECT_API_URL") or f"http://{HOST}:{_port(*PREFECT_PORT)}/api"


def _port(name: str, default: str) -> int:
    given = os.environ.get(name, default)
    if not (given.isascii() and given.isdigit() and len(given) <= 5 and 0 < int(given) < 65_536):
        raise UserError(f"{name}={given} is no port.", f"Give a number from 1 to 65535, such as {default}.")
    return int(given)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - loopback, built above
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def main() -> None:
    try:
        interruption.run(serve, code=0)
    except UserError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
