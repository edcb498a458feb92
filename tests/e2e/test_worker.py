"""A scheduled sweep as docs/other-machines.md describes it: servers, deployment, worker; all on loopback."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from project import Project

from tlm.machine.runtime import PACKAGE_PARENT

pytestmark = pytest.mark.slow


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def _running(
    command: list[str], environment: dict[str, str], log: Path, cwd: Path = PACKAGE_PARENT
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, cwd=cwd, stdout=out, stderr=out)
        try:
            yield process
        finally:
            family = [process, *psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []
            for member in family:
                with suppress(psutil.NoSuchProcess):
                    psutil.Process(member.pid).terminate()
            _, alive = psutil.wait_procs([psutil.Process(m.pid) for m in family if psutil.pid_exists(m.pid)], 20)
            for member in alive:
                with suppress(psutil.NoSuchProcess):
                    member.kill()
            process.wait(timeout=60)


def test_a_worker_runs_a_deployment_twice_and_dies_in_the_third_run_which_can_still_be_cancelled(
    project: Project, tmp_path: Path
) -> None:
    """The second run finds all of it made. The worker is started in a folder of the user's own scripts."""
    (tmp_path / "chatty.py").write_text("import tasks.board; tasks.board.LOG_EVERY_SECONDS = 0", encoding="utf-8")
    prefect_port, mlflow_port = _free_port(), _free_port()
    environment = {
        **project.environment,
        "PREFECT_HOME": str(project.folder / "home" / "data" / "prefect"),
        "TLM_PREFECT_PORT": str(prefect_port),
        "TLM_MLFLOW_PORT": str(mlflow_port),
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    remote = {
        **environment,
        "PREFECT_API_URL": f"http://127.0.0.1:{prefect_port}/api",
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{mlflow_port}",
    }
    prefect = [sys.executable, "-m", "prefect"]

    def command(*arguments: str) -> str:
        done = subprocess.run(
            [*prefect, *arguments], env=remote, cwd=PACKAGE_PARENT, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def tlm(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli", *arguments], env=remote, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    with _running([sys.executable, "-m", "tasks.servers"], environment, tmp_path / "servers.log"):
        api = httpx.Client(base_url=remote["PREFECT_API_URL"], timeout=30)
        _wait(lambda: "Both are up" in (tmp_path / "servers.log").read_text(), 240, tmp_path / "servers.log")
        assert len(tlm("deploy").splitlines()) == 3
        _switch_on(api, "demo")
        tlm("deploy")
        deployed = {d["name"]: d for d in api.post("/deployments/filter", json={}).json()}
        assert [d["name"] for d in deployed.values() if d["schedules"] and d["schedules"][0]["active"]] == ["demo"]
        assert list(deployed["demo"]["parameter_openapi_schema"]["properties"]) == ["limit_steps", "overrides", "study"]
        mini = str(project.folder / "mini.yaml")
        worker = [*prefect, "worker", "start", "--pool", "tlm", "--limit", "1"]
        path = os.pathsep.join((remote["PYTHONPATH"], str(tmp_path)))
        there = {**remote, "PYTHONSAFEPATH": "1", "PYTHONPATH": path, "TLM_EXTENSIONS": "chatty"}
        with _running(worker, there, tmp_path / "worker.log", project.folder) as process:
            for attempt in (1, 2):
                said = tlm("submit", mini, "--set", "finetune.learning_rate=0.003", "--name", f"my run {attempt}")
                assert f"Submitted my run {attempt}: http://127.0.0.1:{prefect_port}/runs/flow-run/" in said
                run = _finished(api, attempt, tmp_path / "worker.log")
                states = _task_states(api, run["id"])
                finetuned = {state for name, state in states if name.startswith("finetune/")}
                assert finetuned == ({"Completed"} if attempt == 1 else set())
                assert attempt == 1 or not states, "what is made already has no task run"
                assert run["name"] == f"my run {attempt}"
                artifacts = _artifacts(api, run["id"])
                assert float(artifacts["mini-progress"]) == 100
                assert "topics" in json.dumps(artifacts["mini-results"])
                assert f"http://127.0.0.1:{mlflow_port}/#/experiments/" in artifacts["mini-mlflow"]
            log = (tmp_path / "worker.log").read_text()
            assert re.search(r"finetune/topics-one\S+: \d+ of \d+ \(\d+ %\)", log)
            assert re.search(r"finetune/topics-one\S+ begins", log) and re.search(r"ends: (\d+) of \1 steps", log)
            tlm("submit", mini, "--set", "pretrain.steps=900000")
            _wait(lambda: "of 900000" in (tmp_path / "worker.log").read_text(), 240, tmp_path / "worker.log")
            family = psutil.Process(process.pid).children(recursive=True)
            assert any(each.name() == "tlm-child" for each in family)
            process.kill()
            process.wait()
            [run] = api.post("/flow_runs/filter", json=RUNNING).json()
            command("flow-run", "cancel", run["id"])
            _, alive = psutil.wait_procs(family, timeout=120)
            assert not alive, "a run went on although it was cancelled"
            assert api.get(f"/flow_runs/{run['id']}").json()["state_type"] == "CANCELLED"
            assert "Running" not in {state for _, state in _task_states(api, run["id"])}
        assert _statuses(remote["MLFLOW_TRACKING_URI"]) == {"FINISHED", "KILLED"}


RUNNING = {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}


def _switch_on(api: httpx.Client, name: str) -> None:
    """The schedule of a deployment, as a person does in the UI, and again while the server's database is busy."""
    [deployment] = [d for d in api.post("/deployments/filter", json={}).json() if d["name"] == name]
    [schedule] = deployment["schedules"]
    place = f"/deployments/{deployment['id']}/schedules/{schedule['id']}"
    deadline = time.monotonic() + 60
    while (answer := api.patch(place, json={"active": True})).status_code == 503 and time.monotonic() < deadline:
        time.sleep(1)
    answer.raise_for_status()


def _statuses(uri: str) -> set[str]:
    """Of all runs in MLflow."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("tlm")
    assert experiment is not None
    return {run.info.status for run in client.search_runs([experiment.experiment_id])}


def _wait(condition: Any, seconds: float, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.5)


def _finished(api: httpx.Client, count: int, log: Path) -> dict[str, Any]:
    def runs() -> list[dict[str, Any]]:
        query = {
            "sort": "START_TIME_DESC",
            "flow_runs": {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}},
        }
        return [run for run in api.post("/flow_runs/filter", json=query).json() if run["deployment_id"]]

    _wait(lambda: len(runs()) >= count, 400, log)
    latest: dict[str, Any] = runs()[0]
    assert latest["state_type"] == "COMPLETED", log.read_text()
    return latest


def _task_states(api: httpx.Client, flow_run: str) -> list[tuple[str, str]]:
    found = api.post("/task_runs/filter", json={"flow_runs": {"id": {"any_": [flow_run]}}}).json()
    return [(run["name"], run["state_name"]) for run in found]


def _artifacts(api: httpx.Client, flow_run: str) -> dict[str, str]:
    found = api.post("/artifacts/filter", json={"artifacts": {"flow_run_id": {"any_": [flow_run]}}}).json()
    return {artifact["key"]: str(artifact["data"]) for artifact in found}
