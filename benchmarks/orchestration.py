"""What steps cost that do nothing, and how costs grow with what there is: `python -m benchmarks.orchestration`.

**Steps**: N steps that write one small file are made, and then found made, by the library alone and as `tlm run` does it:
by Prefect and tracked in MLflow: a server of its own and a SQLite file, or the servers that PREFECT_API_URL and
MLFLOW_TRACKING_URI name, on PostgreSQL if TLM_DATABASE_URL says so. The baseline is the library alone. What starts once
(imports, the server, MLflow's database) is not counted.

**Growth**: a store of N made-up artifacts, each with a table of its own; the baseline is the smallest N, and the ratio of a
cost that is linear is that of the sizes.

    python -m benchmarks.orchestration --steps 100 --records 2500 5000 10000

CPU seconds are those of this process, its children and the servers on this machine that it uses, and hold on a busy machine
as well; wall times do not.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from flows.prefect_environment import set_up
from tlm.artifacts import catalogue
from tlm.artifacts.housekeeping import find_garbage
from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.artifacts.tables import METRICS, Table
from tlm.execution.execute import execute
from tlm.machine.precision import processor_name
from tlm.machine.runtime import Runtime
from tlm.planning.found import inspected, verified
from tlm.planning.plan import Plan, plan
from tlm.stages import STAGES
from tlm.stages.base import Stage
from tlm.stages.job import Facts, Job
from tlm.study.config import StudyConfig

SERVERS = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "TLM_DATABASE_URL")


class Nothing(Stage, name="nothing", version="1"):
    """A step that does nothing."""

    number: int
    outputs: ClassVar[Mapping[str, Table | None]] = {"metrics.parquet": METRICS}

    def run(self, job: Job) -> Facts:
        write_curve(job.out)
        return {"number": self.number}


def write_curve(folder: Path) -> None:
    """A learning curve of two points."""
    curve = {"step": [1, 2], "epoch": [0, 0], "name": ["loss"] * 2, "value": [2.0, 1.0]}
    pq.write_table(pa.table(curve), folder / "metrics.parquet")


def a_step(number: int) -> Step:
    return Step(stage="nothing", version="1", config={"number": number}, inputs={}, slug=f"number-{number}")


@dataclass(frozen=True)
class Cost:
    what: str
    wall: float
    cpu: float
    """Seconds, both."""


def measure(what: str, call: Callable[[], object]) -> Cost:
    wall, cpu = time.perf_counter(), cpu_seconds()
    call()
    return Cost(what, time.perf_counter() - wall, cpu_seconds() - cpu)


def cpu_seconds() -> float:
    """Of this process and the servers that it uses, with all that they have started, what has ended too."""
    found = {each for root in (psutil.Process(), *servers()) for each in (root, *root.children(recursive=True))}
    return sum(sum(each.cpu_times()[:4]) for each in found)


def servers() -> list[psutil.Process]:
    """Those on this machine that the environment names."""
    urls = [urlsplit(os.environ[name]) for name in SERVERS if os.environ.get(name)]
    ports = {url.port for url in urls}
    listening = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    return [psutil.Process(each.pid) for each in listening if each.pid and each.laddr and each.laddr.port in ports]


# --- steps ---


def of_steps(count: int, at_once: int, study: StudyConfig, folder: Path) -> list[Cost]:
    """What `count` steps cost: made and found, by the library alone and as `tlm run` does it."""
    steps = [a_step(number) for number in range(count)]
    alone = Runtime(home=str(folder / "alone"), data_root="", workers=at_once)
    found = []
    for how in ("made", "found made"):
        found.append(measure(f"the library alone, {how}", lambda: [execute(step, alone) for step in steps]))

    runtime = Runtime.from_environment(home=str(folder / "whole"), workers=at_once)
    server = set_up(runtime)
    server.start()

    from flows.completing import run_study
    from flows.study import run_steps
    from tasks.flow_runs import run_here

    def run(planned: Plan) -> None:
        seen = verified(planned, ArtifactStore(runtime.artifacts))
        whole = partial(run_study, planned, seen, runtime, run_steps)
        run_here(whole, runtime, flow_name=study.name, run_name=study.name)

    try:
        server.wait()
        run(Plan(study, (a_step(-1),)))  # whatever is done once
        for how in ("made", "found made"):
            found.append(measure(f"as `tlm run`, {how}", lambda: run(Plan(study, tuple(steps)))))
    finally:
        server.stop()
    return found


# --- growth ---


def fill(store: ArtifactStore, numbers: range) -> None:
    for step in map(a_step, numbers):
        with store.draft(step.ref) as draft:
            write_curve(draft)
            store.publish(step, draft, facts={}, provenance={}, seconds=0.0)


def of_records(count: int, study: StudyConfig, data_root: str, store: ArtifactStore, path: Path) -> list[Cost]:
    """What is asked of a store of `count` artifacts."""
    there = [a_step(number).ref for number in range(count)]
    lacking = [a_step(-1 - number).ref for number in range(count)]
    larger = with_steps(study, count, data_root)
    return [
        measure("look up as many that are there", lambda: store.inspect_each(there, verify=False)),
        measure("the same, files hashed", lambda: store.inspect_each(there)),
        measure("look up as many that are missing", lambda: store.inspect_each(lacking, verify=False)),
        measure("plan a study of about as many steps", lambda: inspected(plan(larger, data_root), store)),
        measure("gc: find what nothing needs", lambda: find_garbage(store)),
        measure("catalogue: build", lambda: catalogue.build(store, path, STAGES)),
        measure("catalogue: see that it is up to date", lambda: catalogue.refresh(store, path, STAGES)),
    ]


def with_steps(study: StudyConfig, count: int, data_root: str) -> StudyConfig:
    """The study with so many fine-tuning seeds that it has about `count` steps."""

    def seeded(seeds: int) -> StudyConfig:
        return study.model_copy(update={"finetune_seeds": tuple(range(seeds))})

    one, two = (len(plan(seeded(seeds), data_root).steps) for seeds in (1, 2))
    return seeded(max(1, 1 + (count - one) // (two - one)))


# --- what is printed ---


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    from flows.loading import load_study

    data_root = os.environ.get("TLM_DATA_ROOT", "")
    study = load_study("demo")
    print(f"{processor_name()}; wall times hold on a quiet machine only", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        if options.steps:
            costs = of_steps(options.steps, options.at_once, study, Path(folder))
            print(f"\n{options.steps} steps, {options.at_once} at once, ms a step\n")
            show(costs, costs[:2] * 2, 1000 / options.steps, "the library alone")
        store, path = ArtifactStore(f"{folder}/records"), Path(folder) / "catalogue.duckdb"
        first: list[Cost] = []
        for before, count in pairwise([0, *sorted(options.records)]):
            fill(store, range(before, count))
            costs = of_records(count, study, data_root, store, path)
            first = first or costs
            print(f"\n{count:,} artifacts, seconds\n")
            show(costs, first, 1, f"{min(options.records):,} artifacts")


def show(costs: Sequence[Cost], baseline: Sequence[Cost], scale: float, name: str) -> None:
    print(f"| | wall | CPU | CPU ÷ {name} |\n|---|--:|--:|--:|")
    for cost, base in zip(costs, baseline, strict=True):
        ratio = cost.cpu / base.cpu if base.cpu else float("nan")
        print(f"| {cost.what} | {cost.wall * scale:.2f} | {cost.cpu * scale:.2f} | {ratio:.1f} |", flush=True)


def _parser() -> argparse.ArgumentParser:
    description, _, example = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.orchestration",
        description=description,
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--steps", type=int, default=100, help="steps that do nothing; 0: none (default 100)")
    parser.add_argument("--at-once", type=int, default=2, help="how many of them at once (default 2)")
    parser.add_argument("--records", type=int, nargs="*", default=[2500, 5000, 10000], help="sizes of the store")
    return parser


if __name__ == "__main__":
    main()
