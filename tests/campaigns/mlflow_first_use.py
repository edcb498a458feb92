"""kill -9 at random moments while MLflow's database is first made: how many homes can no longer be used?

python -m tests.campaigns.mlflow_first_use --kills 24 --seed 1
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tasks.tracking.connecting import prepare
from tlm.machine.runtime import Runtime


@dataclass(frozen=True)
class Outcome:
    """What a kill, `after` seconds, left of a new home: a database or none, and what its next user met ("" if nothing)."""

    after: float
    left: str
    fault: str


def first_use(home: str) -> None:
    prepare(Runtime(home=home))


def use(home: str) -> str:
    """Use a home as its next run would: open a run in MLflow and end it. The error, if there is one."""
    from mlflow import MlflowClient

    try:
        client = MlflowClient(tracking_uri=prepare(Runtime(home=home)))
        experiment = client.get_experiment_by_name("tlm")
        assert experiment is not None
        run = client.create_run(experiment.experiment_id, run_name="after")
        client.set_terminated(run.info.run_id)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return ""


def duration(context: ForkServerContext, home: Path) -> float:
    """Seconds that an undisturbed first use takes, from when its folder appears."""
    process = context.Process(target=first_use, args=(str(home),))
    process.start()
    began = wait_for(home / "mlflow")
    process.join()
    assert process.exitcode == 0, "the undisturbed first use failed"
    return time.monotonic() - began


def kill_one(context: ForkServerContext, home: Path, after: float) -> Outcome:
    process = context.Process(target=first_use, args=(str(home),))
    process.start()
    wait_for(home / "mlflow")
    process.join(timeout=after)
    process.kill()
    process.join()
    database = home / "mlflow" / "mlflow.db"
    left = "a database" if database.exists() else "none"
    return Outcome(after, "finished first" if process.exitcode == 0 else left, use(str(home)))


def wait_for(path: Path) -> float:
    while not path.exists():
        time.sleep(0.001)
    return time.monotonic()


def campaign(kills: int, seed: int, folder: Path) -> list[Outcome]:
    """Kill so many first uses, each at a random moment of its whole duration, and use each home again."""
    context = multiprocessing.get_context("forkserver")  # each starts at once, with everything imported
    context.set_forkserver_preload([__name__, "mlflow", "mlflow.store.tracking.sqlalchemy_store"])
    whole = duration(context, folder / "undisturbed")
    generator = random.Random(seed)
    return [kill_one(context, folder / str(n), generator.uniform(0, whole)) for n in range(kills)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = campaign(asked.kills, asked.seed, Path(folder))
    table = Table("killed after", "left behind", "the next use")
    for each in sorted(outcomes, key=lambda each: each.after):
        table.add_row(f"{each.after:.2f} s", each.left, each.fault or "works")
    bricked = sum(bool(each.fault) for each in outcomes)
    console = Console()
    console.print(table)
    console.print(f"{len(outcomes)} interrupted first uses, seed {asked.seed}: {bricked} bricked homes.")
    sys.exit(bool(bricked))


if __name__ == "__main__":
    main()
