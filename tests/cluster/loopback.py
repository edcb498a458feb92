"""A cluster on loopback: two nodes of Ray, SeaweedFS, Prefect's and MLflow's servers, and PostgreSQL where it is installed.

Each node has a folder for temporary files of its own, as two machines would: nothing is shared but the object store.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from artifacts.object_stores import SeaweedFS, seaweed
from helpers import python_environment

HEAD, OTHER = "127.0.0.2", "127.0.0.3"
"""Ray takes 127.0.0.1 for the host's own address, of which there is one."""
START_SECONDS = 600
LISTENING = "dashboard_agent_listen_port"
AGENTS = ("dashboard-agent-grpc-port", "dashboard-agent-listen-port", "metrics-export-port", "runtime-env-agent-port")
"""Ports that are given, for a node is given up if its agents take longer than 15 s to say which they have chosen."""
PATIENCE = {
    "RAY_worker_niceness": "0",
    "RAY_raylet_start_wait_time_s": str(START_SECONDS),
    "RAY_worker_register_timeout_seconds": str(START_SECONDS),
    "RAY_agent_register_timeout_ms": str(START_SECONDS * 1000),
    "RAY_gcs_server_request_timeout_seconds": str(START_SECONDS),
    "RAY_health_check_initial_delay_ms": "120000",
    "RAY_health_check_timeout_ms": "120000",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
}
"""What Ray waits for is late on a busy machine, and no sign of death."""


@dataclass
class Cluster:
    """What is up, and the environment of whoever uses it."""

    environment: dict[str, str]
    store: SeaweedFS
    database: Postgres | None
    """What Prefect's and MLflow's servers keep their tables in, unless it is SQLite."""
    servers: psutil.Process
    """Of `make server`."""
    log: Path
    """What these say."""
    raylets: list[psutil.Process]

    def trainings(self) -> list[psutil.Process]:
        """The processes that train for this cluster, also those that nobody waits for any longer."""
        return [process for process in psutil.process_iter() if _trains(process) and self._is_own(process)]

    def mlflow(self) -> list[psutil.Process]:
        """MLflow's server, and the processes that it has started."""
        below = self.servers.children(recursive=True)
        found = [process for process in below if "tasks.mlflow_server" in process.cmdline()]
        return [*found, *(child for process in found for child in process.children(recursive=True))]

    def _is_own(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error):
            return process.environ().get("AWS_ENDPOINT_URL") == self.environment["AWS_ENDPOINT_URL"]
        return False


def worker_of(training: psutil.Process) -> psutil.Process:
    """The process of Ray's that waits for a training."""
    return next(process for process in training.parents() if "ray::" in " ".join(process.cmdline()))


def _trains(process: psutil.Process) -> bool:
    """Whether it is a child that trains: forked, which has this name, or started."""
    with suppress(psutil.Error):
        return process.name() == "tlm-child" or process.cmdline()[-2:] == ["-m", "tlm.execution.child"]
    return False


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Everything up, and down again; skips where something is not installed."""
    needs_ray()
    with ExitStack() as stack:
        store = stack.enter_context(seaweed(folder / "weed"))
        database = stack.enter_context(postgres())
        process, addresses = stack.enter_context(servers(folder / "servers", database.environment if database else {}))
        environment = python_environment(**store.environment, **addresses, **PATIENCE, TLM_HOME="s3://tlm-test/home")
        environment |= {
            "RAY_ADDRESS": f"{HEAD}:{free_port()}",
            "TLM_DATA_ROOT": str(folder / "data"),
            "TLM_THREADS": "1",
        }
        raylets = stack.enter_context(nodes(environment))
        driver = {"TLM_ENGINE": "ray", "TLM_DEVICE": "cpu"}
        yield Cluster(environment | driver, store, database, process, folder / "servers" / "log", raylets)


def needs_ray() -> None:
    """Skip where Ray is not installed."""
    for package in ("ray", "prefect_ray"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'tlm[ray]'")


@contextmanager
def nodes(
    environment: dict[str, str], addresses: tuple[str, ...] = (HEAD, OTHER), *, cpus: int = 1, gpus: int = 0
) -> Iterator[list[psutil.Process]]:
    """Nodes of Ray, the first of them its head; their raylets.

    Args:
        environment: with RAY_ADDRESS, and whatever else steps need there.
        cpus: how many CPUs each says that it has.
        gpus: how many GPUs, which Ray counts and does not look for.
    """
    raylets: list[psutil.Process] = []
    with ExitStack() as stack:
        for number, address in enumerate(addresses):
            # Sockets of Ray lie there, whose paths have an end.
            own = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True))
            )
            port = environment["RAY_ADDRESS"].rpartition(":")[2]
            which = ["--head", f"--port={port}", f"--temp-dir={own / 'r'}", "--include-dashboard=false"]
            if number:
                which = [f"--address={environment['RAY_ADDRESS']}"]
            low = 21_000 + 1_000 * number
            ports = {name: free_port() for name in AGENTS}
            which += [f"--{name}={port}" for name, port in ports.items()]
            command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *which]
            command += [f"--node-ip-address={address}", f"--num-cpus={cpus}", f"--num-gpus={gpus}"]
            command += ["--object-store-memory=100000000", f"--min-worker-port={low}", f"--max-worker-port={low + 999}"]
            log = stack.enter_context((own / "log").open("wb"))
            started = subprocess.Popen(
                command, env={**environment, "TMPDIR": str(own)}, stdout=log, stderr=log, start_new_session=True
            )
            stack.callback(_end, started)
            until(partial(_raylets, environment["RAY_ADDRESS"], address), started, own / "log")
            [raylet] = _raylets(environment["RAY_ADDRESS"], address)
            _tell(raylet, LISTENING, ports[LISTENING.replace("_", "-")])
            until(lambda: b"Ray runtime started" in (own / "log").read_bytes(), started, own / "log")
            raylets.append(raylet)
        yield raylets


def _raylets(cluster: str, address: str) -> list[psutil.Process]:
    """The raylet of a node, if it is there."""
    wanted = {f"--gcs-address={cluster}", f"--node_ip_address={address}"}
    return [p for p in psutil.process_iter(["name", "cmdline"]) if wanted <= {*(p.info["cmdline"] or ())}]


def _tell(raylet: psutil.Process, name: str, port: int) -> None:
    """Write the file by which a node learns a port of its agent, as the agent will once it has started.

    The raylet waits 15 s for it, whatever it was told, and gives the node up: on a busy machine an agent starts later.
    """
    flags = dict(part.removeprefix("--").partition("=")[::2] for part in raylet.cmdline() if part.startswith("--"))
    (Path(flags["session_dir"]) / f"{name}_{flags['node_id']}").write_text(str(port))


@contextmanager
def servers(folder: Path, database: dict[str, str]) -> Iterator[tuple[psutil.Process, dict[str, str]]]:
    """What `make server` starts: its process, and the variables by which the servers are found."""
    folder.mkdir(parents=True)
    prefect, mlflow = free_port(), free_port()
    ports = {"TLM_PREFECT_PORT": str(prefect), "TLM_MLFLOW_PORT": str(mlflow)}
    with (folder / "log").open("wb") as log:
        environment = python_environment(TLM_HOME=str(folder), **ports, **database)
        process = subprocess.Popen([sys.executable, "-m", "tasks.servers"], env=environment, stdout=log, stderr=log)
    try:
        until(lambda: b"Both are up" in (folder / "log").read_bytes(), process, folder / "log")
        addresses = {"PREFECT_API_URL": f"http://127.0.0.1:{prefect}/api"}
        addresses["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{mlflow}"
        yield psutil.Process(process.pid), addresses
    finally:
        process.terminate()
        process.wait()


class Postgres:
    """A PostgreSQL on loopback with the two databases, that may be started again."""

    def __init__(self, tools: Path, folder: Path) -> None:
        self.tools, self.folder, self.port = tools, folder, free_port()
        user = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}
        if user:
            shutil.chown(folder, "postgres")
        self.options = {**user, "cwd": folder}
        self.client = ["--host=127.0.0.1", f"--port={self.port}", "--username=tlm"]
        self.environment = {"TLM_DATABASE_URL": f"postgresql://tlm@127.0.0.1:{self.port}/tlm"}
        initdb = [
            tools / "initdb",
            "--auth=trust",
            "--username=tlm",
            "--encoding=UTF8",
            "--no-locale",
            "--pgdata",
            folder / "data",
        ]
        subprocess.run(initdb, check=True, capture_output=True, **self.options)
        self.start()
        for name in ("tlm_prefect", "tlm_mlflow"):
            subprocess.run([tools / "createdb", *self.client, name], check=True, capture_output=True)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = ["-c", f"port={self.port}", "-c", "listen_addresses=127.0.0.1"]
        settings += ["-c", f"unix_socket_directories={self.folder}"]
        with (self.folder / "log").open("ab") as log:
            command = [self.tools / "postgres", "-D", self.folder / "data", *settings]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, **self.options)
        is_ready = [self.tools / "pg_isready", *self.client]
        until(lambda: subprocess.run(is_ready, capture_output=True).returncode == 0, self.process, self.folder / "log")

    def stop(self) -> None:
        """At once: whoever is connected is cut off."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait()


@contextmanager
def postgres() -> Iterator[Postgres | None]:
    """A PostgreSQL that has started, if it is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found or find_spec("psycopg2") is None:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
    server = Postgres(found[-1], folder)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def until(holds: Callable[[], object], process: subprocess.Popen[bytes] | None, log: Path) -> None:
    """Wait until it holds; fails with the end of the log if the process ends, or takes longer than START_SECONDS."""
    deadline = time.monotonic() + START_SECONDS
    while not holds():
        if time.monotonic() > deadline or (process is not None and process.poll() is not None):
            pytest.fail(f"{log} ends before it was to:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.5)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a node: all that its command has started, and that has not left its group."""
    with suppress(psutil.NoSuchProcess):
        below = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        _, left = psutil.wait_procs(below, timeout=60)
        for each in left:
            with suppress(psutil.NoSuchProcess):
                each.kill()
    process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
