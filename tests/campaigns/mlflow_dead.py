"""An MLflow server that dies, hangs or loses its answer in the middle of a study: what is lost, and for how long?

    python -m tests.campaigns.mlflow_dead

Each row is a study in a new home. It must end with every artifact (but where MLflow is gone before any work: then it ends
with an error), and once MLflow is back, the next run must leave the run of each artifact complete and none running. Studies
train in their own process, and without Prefect.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, get_args

from mlflow import MlflowClient
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers import mini_study, write_mini_data

from tasks.guard import Guard
from tasks.tracking import processes
from tasks.tracking.recorded import recorded_parent
from tasks.tracking.runs import numbers_of
from tasks.tracking.view import View
from tests.campaigns.faulty_proxy import Fault, Moment, Proxy
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.machine.runtime import Runtime
from tlm.planning.plan import Plan, plan

MOMENTS = (
    Moment("the study is opened", "/mlflow/runs/create"),
    Moment("a step is opened", "/mlflow/runs/create", 4),
    Moment("its parameters are logged", "/mlflow/runs/log-batch", 5),
    Moment("its inputs are logged", "/mlflow/runs/log-inputs", 3),
    Moment("its numbers are logged", "/mlflow/runs/log-batch", 14),
    Moment("a model is uploaded", "model.safetensors"),
    Moment("a model is linked to its run", "/mlflow/runs/outputs"),
    Moment("the study ends", "report.html", 2),
)
SMALL = {"corpus__sizes": [0, 60], "treatments": [], "treatment_architectures": None, "committees": []}


@dataclass(frozen=True)
class Outcome:
    """What became of a study at whose `moment` MLflow had a `fault`."""

    moment: str
    fault: str
    seconds: float
    """Of the study, until it ended."""
    held: float
    """Seconds of it in which it waited for MLflow."""
    made: str
    """Artifacts, of all."""
    running: int
    """Runs left running after the next run."""
    faults: list[str]


def study(data: Path) -> Plan:
    whole = mini_study(**SMALL)
    return plan(whole.model_copy(update={"architectures": whole.architectures[:1]}), str(data))


def run(runtime: Runtime, planned: Plan, log: str) -> None:
    """A study as `flows.study` runs it, one step after the other; exit code 2 if it is refused."""
    sys.stderr = sys.stdout = Path(log).open("a", buffering=1)  # noqa: SIM115 - until the process ends

    from tasks.tracking.ending import Ending
    from tasks.tracking.step_run import execute_tracked
    from tasks.tracking.study import close_study, open_study
    from tlm.artifacts.provenance import provenance

    time_waiting(log)
    store = ArtifactStore(runtime.artifacts)
    try:
        content = planned.study.model_dump(mode="json")
        tracking = open_study(runtime, planned.study.name, content, provenance())
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    hits = tuple(step.ref for step in planned.steps if store.inspect(step.ref).status == "complete")
    for step in planned.steps:
        execute_tracked(step, runtime, tracking)
    ending = Ending(status="FINISHED", report=planned.report.ref, numbers={"steps": 1}, hits=hits)
    close_study(tracking, runtime, ending)


HELD = "held up for"


def time_waiting(log: str) -> None:
    """Have everything that waits for MLflow write down how long it did."""
    from tasks.tracking import study
    from tasks.tracking.outbox import Outbox

    def timed(call: Callable[..., Any]) -> Callable[..., Any]:
        def wait(*arguments: Any, **named: Any) -> Any:
            began = time.monotonic()
            try:
                return call(*arguments, **named)
            finally:
                with Path(log).open("a") as file:
                    file.write(f"{HELD} {time.monotonic() - began}\n")

        return wait

    Outbox.now, Outbox.drain = timed(Outbox.now), timed(Outbox.drain)  # type: ignore[method-assign]
    study.prepare = timed(study.prepare)


def waited(log: Path) -> float:
    lines = log.read_text().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(HELD))


def attempt(context: ForkServerContext, runtime: Runtime, planned: Plan, log: Path) -> tuple[int | None, float]:
    """Run the study in a process of its own; its exit code, and the seconds it took."""
    began = time.monotonic()
    process = context.Process(target=run, args=(runtime, planned, str(log)))
    process.start()
    process.join(timeout=300)
    process.kill()
    process.join()
    return process.exitcode, time.monotonic() - began


def disturb(
    context: ForkServerContext, proxy: Proxy, data: Path, folder: Path, moment: Moment, fault: Fault
) -> Outcome:
    """Run a study whose MLflow has a fault, then, once it is healed, the study again, and look at what MLflow shows."""
    planned = study(data)
    home = Runtime(home=str(folder), data_root=str(data), isolate=False, tracking_uri=f"http://127.0.0.1:{proxy.port}")
    folder.mkdir()
    log = folder / "log.txt"
    proxy.set(moment, fault)
    others = left_running(home)
    code, seconds = attempt(context, home, planned, log)
    held = waited(log)
    faults = [] if proxy.broken else ["the moment never came"]
    if code != (2 if moment is MOMENTS[0] else 0):
        faults.append(f"exit code {code}")
    made = artifacts(home)
    expected = 0 if moment is MOMENTS[0] else len(planned.steps)
    if made != expected:
        faults.append(f"{expected - made} artifacts lost")
    proxy.heal()
    again, _ = attempt(context, home, planned, log)
    if again != 0:
        faults.append(f"exit code {again} of the next run")
    if "Traceback" in log.read_text():
        faults.append("a traceback")
    running = len(left_running(home) - others)
    faults += lacking(home) + ([f"{running} runs left running"] if running else [])
    return Outcome(moment.name, fault, seconds, held, f"{made} of {len(planned.steps)}", running, faults)


def artifacts(runtime: Runtime) -> int:
    store = ArtifactStore(runtime.artifacts)
    return sum(store.inspect(record.ref).status == "complete" for record in store.records())


def view_of(runtime: Runtime) -> View:
    client = MlflowClient(tracking_uri=runtime.tracking_uri)
    store = ArtifactStore(runtime.artifacts)
    return View(client, str(runtime.tracking_uri), store, processes.folder_of(runtime))


def left_running(runtime: Runtime) -> set[str]:
    """The runs that MLflow shows as running, whoever opened them."""
    view = view_of(runtime)
    return {run.info.run_id for run in view.search("attributes.status = 'RUNNING'")} if view.experiments else set()


def lacking(runtime: Runtime) -> list[str]:
    """What MLflow lacks of a home's artifacts."""
    view, faults = view_of(runtime), []
    for record in view.store.records():
        made = view.maker(record)
        if made is None or made.info.status != "FINISHED":
            faults.append(f"{record.ref} has no finished run")
        elif not numbers_of(record).items() <= made.data.metrics.items() or bool(made.data.params) < bool(
            record.config
        ):
            faults.append(f"{record.ref} is not complete")
        elif "model.safetensors" in record.outputs and len(made.outputs.model_outputs) != 1:
            faults.append(f"{record.ref} has not one model")
        elif not view.run(recorded_parent(record)):
            faults.append(f"{record.ref} belongs to no study's run")
    if left := list(processes.folder_of(runtime).glob("*.json")):
        faults.append(f"{len(left)} notes left")
    return faults


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def mlflow_server(folder: Path) -> Iterator[int]:
    """An MLflow server of its own; yields its port."""
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    guard = Guard()
    folder.mkdir()
    port = free_port()
    where = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files")]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    server = guard.start([*command, *where])
    try:
        deadline = time.monotonic() + 240
        while not answers(port):
            assert time.monotonic() < deadline and server.poll() is None, "the MLflow server does not start"
            time.sleep(0.5)
        yield port
    finally:
        guard.end(server)


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--moments", type=int, default=len(MOMENTS), help="so many of them, from the first")
    parser.add_argument("--faults", nargs="+", default=list(get_args(Fault)), choices=get_args(Fault))
    asked = parser.parse_args()
    context = multiprocessing.get_context("forkserver")  # each run starts at once, with everything imported
    context.set_forkserver_preload(["tasks.tracking.step_run", "transformers"])
    console = Console()
    table = Table("MLflow", "as", "the study took", "of it waiting", "artifacts", "left running", "faults")
    with tempfile.TemporaryDirectory() as place, mlflow_server(Path(place) / "mlflow") as port:
        folder = Path(place)
        data = write_mini_data(folder / "data")
        proxy = Proxy(port)
        never = Moment("never", "no such request")
        undisturbed = disturb(context, proxy, data, folder / "undisturbed", never, "dies")
        outcomes = [
            disturb(context, proxy, data, folder / f"{fault} {n}".replace(" ", "-"), moment, fault)
            for fault in asked.faults
            for n, moment in enumerate(MOMENTS[: asked.moments])
        ]
    for each in outcomes:
        faults = "; ".join(each.faults) or "none"
        times = (f"{each.seconds:.0f} s", f"{each.held:.0f} s")
        table.add_row(each.fault, each.moment, *times, each.made, str(each.running), faults)
    console.print(table)
    bad = sum(bool(each.faults) for each in outcomes)
    longest = max(each.held for each in outcomes)
    console.print(
        f"{len(outcomes)} disturbed studies: {bad} with faults. None waited for MLflow longer than {longest:.0f} s, "
        f"an undisturbed one {undisturbed.held:.0f} s."
    )
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
