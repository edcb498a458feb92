"""kill -9 at the worst moments: nothing finished is lost, nothing half-written is read, the result is the same."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from helpers import mini_tree, python
from project import Project, digests, new_project

from tlm.artifacts.building import DRAFTS
from tlm.artifacts.fingerprint import SHORT
from tlm.artifacts.in_progress import unfinished

pytestmark = pytest.mark.slow
LONGER = ("--set", "pretrain.steps=3000")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of these tests' own, with one model: they leave more in it than the study holds."""
    smaller = {"corpus__sizes": [0, 60], "treatments": [], "treatment_architectures": None, "committees": []}
    return new_project(tmp_path_factory.mktemp("crashing"), architectures=mini_tree()["architectures"][:1], **smaller)


def _training(process: subprocess.Popen[str]) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if _trains(child)]


def _trains(child: psutil.Process) -> bool:
    try:
        return child.name() == "tlm-child"
    except psutil.NoSuchProcess:  # another child of it has ended in the meantime
        return False


def _under_way(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Its training processes once one has trained for some seconds."""
    deadline = time.monotonic() + 300
    workers: list[psutil.Process] = []
    while not workers and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.2)
        workers = [child for child in _training(process) if child.cpu_times().user > 5]
    assert workers, f"no training process before the end of the run (exit code {process.poll()})"
    return workers


def test_kill_in_the_middle_of_pretraining(project: Project) -> None:
    before = project.records()
    process = project.start("run", str(project.folder / "mini.yaml"), *LONGER)
    _under_way(process)
    family = psutil.Process(process.pid).children(recursive=True)
    assert any("prefect_server" in " ".join(each.cmdline()) for each in family)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive, "a training process, or Prefect's server, outlived its parent"
    assert _flow_runs(project)[-1] == "RUNNING"
    kept = project.records()
    assert before.items() <= kept.items()
    assert all(project.store.inspect(record.ref).status == "complete" for record in kept.values())
    [begun] = unfinished(project.store)
    assert {record.key for name, record in kept.items() if name not in before} <= begun.keys

    project.run(*LONGER)
    assert _flow_runs(project)[-2:] == ["CRASHED", "COMPLETED"]
    assert list(unfinished(project.store)) == [] == project.left_running()
    after = project.records()
    assert kept.items() <= after.items(), "a finished stage was repeated"
    resumed = {name: digests(r) for name, r in after.items() if name not in before and r.stage != "report"}

    project.tlm("invalidate", "pretrain", "--yes")
    project.run(*LONGER)
    undisturbed = project.records()
    assert {name: digests(undisturbed[name]) for name in resumed} == resumed


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """A shell's background job and all that it starts ignore Ctrl-C, unless it is handled where they are started from."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_in_one_line_and_what_is_finished_is_kept(
    number: signal.Signals, project: Project, tmp_path: Path, ctrl_c: None
) -> None:
    """A terminal sends Ctrl-C to every process of the command; SIGTERM comes to the command alone."""
    before = project.records()
    longest = ("--set", f"pretrain.steps={900_000 + number}")
    with (tmp_path / "out").open("w+") as out:
        process = project.start("run", str(project.folder / "mini.yaml"), *longest, out=out, start_new_session=True)
        _under_way(process)
        family = psutil.Process(process.pid).children(recursive=True)
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        assert process.wait(60) == 128 + number
        _, alive = psutil.wait_procs(family, timeout=20)
        said = (tmp_path / "out").read_text(encoding="utf-8")
    assert not alive, "a process outlived its parent"
    assert said.splitlines()[-1] == "interrupted. Finished stages are kept: run the same command again to go on."
    assert "Traceback" not in said and "ERROR" not in said and "failed" not in said, said
    assert before.items() <= project.records().items()
    assert _flow_runs(project)[-1] == "CANCELLED"
    assert _ends_of_the_last_study(project) == {"KILLED"}, "what was found finished has no run"


def _flow_runs(project: Project) -> list[str]:
    """The states of Prefect's flow runs, the oldest first."""
    with closing(sqlite3.connect(project.folder / "home" / "data" / "prefect" / "prefect.db")) as connection:
        return [row[0] for row in connection.execute("select state_type from flow_run order by created")]


def _ends_of_the_last_study(project: Project) -> set[str]:
    """The statuses of its run in MLflow and of those of its steps."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{project.folder / 'home' / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tlm")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])
    last = next(run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    assert last.info.status == "KILLED"
    return {run.info.status for run in runs if run.data.tags.get("mlflow.parentRunId") == last.info.run_id}


@pytest.mark.parametrize("moment", ["write_bytes", "rename"])
def test_kill_while_an_artifact_is_written(project: Project, moment: str) -> None:
    """Killed as the record is written, and between the record and the move into place."""
    project.run()
    record = project.record("overlap", "topics-ws60")
    project.tlm("invalidate", record.key[:SHORT], "--no-downstream", "--yes")
    home, data = project.environment["TLM_HOME"], project.environment["TLM_DATA_ROOT"]
    done = python(
        f"""
import os, pathlib, signal
from flows.loading import load_study
from tlm.execution.execute import execute
from tlm.planning.plan import plan
from tlm.machine.runtime import Runtime
def die(*a, **k): os.kill(os.getpid(), signal.SIGKILL)
{"pathlib.Path.write_bytes = die" if moment == "write_bytes" else "os.rename = die"}
runtime = Runtime(home={home!r}, data_root={data!r})
steps = plan(load_study({str(project.folder / "mini.yaml")!r}), runtime.data_root).steps
execute(next(s for s in steps if s.key == {record.key!r}), runtime)
""",
        cwd=project.folder,
        PYTHONSAFEPATH="1",
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert project.store.inspect(record.ref).status == "missing"
    drafts = project.folder / "home" / "data" / "artifacts" / DRAFTS
    assert [d for d in drafts.iterdir() if d.name.startswith(record.key[:SHORT])], "the test killed too early"
    assert "1 stages executed" in project.run()
    assert digests(project.record("overlap", "topics-ws60")) == digests(record)
    assert not [d for d in drafts.iterdir() if d.name.startswith(record.key[:SHORT])]


def test_two_runs_at_once_make_each_artifact_once(project: Project) -> None:
    change = ("--set", "finetune.learning_rate=0.002")
    first, second = (project.start("run", str(project.folder / "mini.yaml"), *change) for _ in range(2))
    assert (first.wait(timeout=600), second.wait(timeout=600)) == (0, 0)
    assert all(project.store.inspect(record.ref).status == "complete" for record in project.store.records())
