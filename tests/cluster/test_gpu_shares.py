"""Trainings that ask for half a GPU share one; the next waits until there is room."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from cluster.loopback import HEAD, PATIENCE, free_port, needs_ray, nodes, servers, until
from helpers import python_environment, write_mini_data

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]

PROGRAM = """
import sys, time
from pathlib import Path
from helpers import mini_study
from prefect import flow, task
from tasks.engines import ENGINES
from tasks.nodes import connect
from tlm.machine.runtime import Runtime
from tlm.planning.plan import plan

folder, data = map(Path, sys.argv[1:])
engine, runtime = ENGINES["ray"], Runtime.from_environment()
[training, *_] = [step for step in plan(mini_study(), str(data)).steps if step.stage == "pretrain"]

@task
def train(number: int) -> None:
    import ray
    (folder / f"begun-{number}").write_text(repr(ray.get_gpu_ids()))
    while not (folder / f"end-{number}").exists():
        time.sleep(0.1)

@flow(task_runner=engine.task_runner(runtime))
def three() -> None:
    futures = []
    for number in range(3):
        with engine.placing(training, runtime):
            futures.append(train.submit(number))
    for future in futures:
        future.result()

connect()
three()
"""


def test_two_trainings_share_a_gpu_and_a_third_is_held_until_one_ends(tmp_path: Path) -> None:
    needs_ray()
    write_mini_data(tmp_path / "data")
    with servers(tmp_path / "servers", {}) as (_, addresses):
        asked = {"TLM_ENGINE": "ray", "TLM_DEVICE": "cuda", "TLM_GPU_SHARE": "0.5", "TLM_THREADS": "1"}
        tests = str(Path(__file__).parents[1])
        environment = python_environment(**addresses, **PATIENCE, **asked, RAY_ADDRESS=f"{HEAD}:{free_port()}")
        environment["PYTHONPATH"] += f":{tests}"
        with nodes(environment, (HEAD,), cpus=4, gpus=1), (tmp_path / "log").open("wb") as log:
            command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(tmp_path / "data")]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            until(lambda: len(begun(tmp_path)) == 2, process, tmp_path / "log")
            time.sleep(5)
            first = begun(tmp_path)
            assert len(first) == 2, "there are CPUs for three"
            assert {(tmp_path / f"begun-{number}").read_text() for number in first} == {"[0]"}
            (tmp_path / f"end-{first[0]}").touch()
            until(lambda: len(begun(tmp_path)) == 3, process, tmp_path / "log")
            for number in range(3):
                (tmp_path / f"end-{number}").touch()
            assert process.wait(timeout=300) == 0, (tmp_path / "log").read_text()


def begun(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("begun-")) for path in folder.glob("begun-*"))
