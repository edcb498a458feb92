"""A whole study on a Ray cluster: the same bits as on this machine alone, whatever is killed meanwhile; and its end.

    python -m pytest -n0 -m slow tests/cluster

It takes minutes, and a cluster's worth of processes.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml
from cluster.loopback import Cluster, cluster, until, worker_of
from golden import UNREPEATABLE
from helpers import mini_tree, python_environment, write_mini_data
from mlflow import MlflowClient
from prefect import State
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import StateType

from tlm.artifacts.store import ArtifactStore
from tlm.machine.runtime import Runtime

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_600)]
PATIENCE = 1_800
"""Seconds that a command may take beside whatever else this machine does."""
STOPPING_SECONDS = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("cluster")
    write_mini_data(made / "data")
    return made


@pytest.fixture(scope="module")
def up(folder: Path) -> Iterator[Cluster]:
    with cluster(folder) as running:
        yield running


def start(up: Cluster, folder: Path, name: str, **changes: object) -> subprocess.Popen[bytes]:
    """Start the miniature study with changes, as a command of its own."""
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(mini_tree(name=name, **changes)), encoding="utf-8")
    command = [sys.executable, "-m", "flows.cli", "run", str(file)]
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(command, env={**up.environment, "TMPDIR": str(folder)}, stdout=log, stderr=log)


def ends(process: subprocess.Popen[bytes], log: Path, code: int = 0) -> None:
    """It ends with this code."""
    assert process.wait(timeout=PATIENCE) == code, log.read_text(errors="replace")


def wait_for(holds: Callable[[], object], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text(errors="replace")
        time.sleep(0.2)


def made(url: str) -> dict[str, dict[str, str]]:
    """The digests of every output that two runs have to agree on, by artifact."""
    records = ArtifactStore(url).records()
    return {
        str(record.ref): {name: output.sha256 for name, output in record.outputs.items()}
        for record in records
        if record.stage not in UNREPEATABLE
    }


def made_here(folder: Path, name: str) -> dict[str, dict[str, str]]:
    """What threads make of a study that was started, on a disk, and what they made before."""
    home = {"TLM_HOME": str(folder / "here"), "TLM_DATA_ROOT": str(folder / "data"), "TLM_THREADS": "1"}
    command = [sys.executable, "-m", "flows.cli", "run", str(folder / f"{name}.yaml")]
    subprocess.run(command, env=python_environment(**home, TLM_ENGINE="threads"), check=True, capture_output=True)
    return made(Runtime(home=home["TLM_HOME"]).artifacts)


def made_on(up: Cluster, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, str]]:
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, up.environment[name])
    return made(Runtime(home=up.environment["TLM_HOME"]).artifacts)


def test_a_study_on_two_nodes_makes_the_bits_that_threads_make_on_a_disk(
    up: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends(start(up, folder, "mini"), folder / "mini.log")
    here = made_here(folder, "mini")
    assert len(here) >= 15
    assert here.items() <= made_on(up, monkeypatch).items()


LONG = {"pretrain__steps": 1_000, "corpus__sizes": [120], "treatments": [], "committees": []}
"""A study with trainings that are under way for a while."""


def press_ctrl_c(up: Cluster, process: subprocess.Popen[bytes], name: str) -> None:
    process.send_signal(signal.SIGINT)


def cancel_in_prefect(up: Cluster, process: subprocess.Popen[bytes], name: str) -> None:
    """What the button in Prefect's UI asks for."""
    with SyncPrefectClient(up.environment["PREFECT_API_URL"]) as client:
        wanted = FlowRunFilter.model_validate({"name": {"any_": [name]}})
        [run] = client.read_flow_runs(flow_run_filter=wanted)
        client.set_flow_run_state(run.id, State(type=StateType.CANCELLING))


@pytest.mark.parametrize(
    ("cancel", "number"),
    [(press_ctrl_c, int(signal.SIGINT)), (cancel_in_prefect, int(signal.SIGTERM))],
    ids=["ctrl-c", "prefect"],
)
def test_the_trainings_of_a_study_that_is_cancelled_end(
    cancel: Callable[[Cluster, subprocess.Popen[bytes], str], None], number: int, up: Cluster, folder: Path
) -> None:
    name = f"cancelled-by-{number}"
    process = start(up, folder, name, **{**LONG, "pretrain_seeds": [number]})
    wait_for(up.trainings, process, folder / f"{name}.log")
    cancel(up, process, name)
    deadline = time.monotonic() + STOPPING_SECONDS
    while up.trainings() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert up.trainings() == []
    ends(process, folder / f"{name}.log", 128 + number)


def kill_worker(up: Cluster) -> None:
    [training, *_] = up.trainings()
    worker_of(training).kill()
    psutil.wait_procs([training], timeout=60)


def kill_store(up: Cluster) -> None:
    up.store.kill()
    time.sleep(20)
    up.store.start()


def kill_mlflow(up: Cluster) -> None:
    """Whoever would start it again at once is stopped for a minute."""
    up.servers.suspend()
    for process in up.mlflow():
        process.kill()
    time.sleep(60)
    up.servers.resume()
    url = up.environment["MLFLOW_TRACKING_URI"]
    until(lambda: answers(f"{url}/health"), None, up.log)


def answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=5) as response:
        return bool(response.status == 200)
    return False


def restart_database(up: Cluster) -> None:
    if up.database is None:
        pytest.skip("PostgreSQL or psycopg2 is not installed")
    up.database.stop()
    up.database.start()


def kill_node(up: Cluster) -> None:
    up.raylets[-1].kill()


FAULTS: tuple[Callable[[Cluster], None], ...] = (kill_worker, kill_store, kill_mlflow, restart_database, kill_node)
"""The last one leaves a node."""


def is_whole(up: Cluster, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study that has ended has made what threads make; no run is said to be running, and nothing trains any longer.

    One that MLflow was not there to hear the end of says so, and what completes it.
    """
    assert up.trainings() == []
    if "has not been told everything" in (folder / f"{name}.log").read_text():
        track = [sys.executable, "-m", "flows.cli", "track"]
        subprocess.run(track, env={**up.environment, "TMPDIR": str(folder)}, check=True, capture_output=True)
    client = MlflowClient(up.environment["MLFLOW_TRACKING_URI"])
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    assert [run.info.run_name for run in client.search_runs(experiments, "status = 'RUNNING'")] == []
    assert made_here(folder, name).items() <= made_on(up, monkeypatch).items()


def test_a_driver_that_is_killed_leaves_nothing_behind_that_the_next_run_does_not_settle(
    up: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start(up, folder, "driver", **LONG)
    wait_for(up.trainings, process, folder / "driver.log")
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(up.trainings(), timeout=STOPPING_SECONDS)
    assert alive == []
    ends(start(up, folder, "driver", **LONG), folder / "driver.log")
    is_whole(up, folder, "driver", monkeypatch)


@pytest.mark.parametrize("seed", range(len(FAULTS)), ids=lambda seed: FAULTS[seed].__name__)
def test_a_study_ends_whole_whatever_is_killed(
    seed: int, up: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = FAULTS[seed].__name__.replace("_", "-")
    process = start(up, folder, name, **{**LONG, "pretrain_seeds": [10 + seed]})
    wait_for(up.trainings, process, folder / f"{name}.log")
    FAULTS[seed](up)
    ends(process, folder / f"{name}.log")
    is_whole(up, folder, name, monkeypatch)
