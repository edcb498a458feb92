"""Whole runs are killed at random moments, with their children, and run again: is anything wrong, lost or left behind?

    python -m tests.campaigns.kills --kills 100 --seed 1

Each home is killed a few times in a row, from its first use on, and then its run is left alone. What it has made is
compared with what an undisturbed home has made. The exit code is 1 if anything but zero is in the last columns.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeAlias

import psutil
import yaml
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from helpers import mini_tree, write_mini_data
from project import Process, Project, digests

from tlm.artifacts.record import Record

SMALL = {"corpus__sizes": [60], "treatments": [], "treatment_architectures": None, "committees": []}
KILLS_PER_HOME = 4
GONE_SECONDS = 20.0
"""How long what a killed run has started may take to end: less than a scheduler's patience."""
SOONEST = 0.3
"""Seconds before which a command is Python's own start and not yet ours."""

Family: TypeAlias = dict[int, psutil.Process]
"""A command and what it has started, by process id."""

FAULTS = ("wrong", "lost", "orphans", "tracebacks", "wrong exit", "failed again", "left RUNNING")


@dataclass(frozen=True)
class Kill:
    """A signal, and to whom it is sent."""

    number: signal.Signals
    to_all: bool
    """To the whole group, as a terminal does; otherwise to the command alone."""

    def __str__(self) -> str:
        return f"{self.number.name} to {'all' if self.to_all else 'the command'}"

    def strike(self, pid: int) -> None:
        (os.killpg if self.to_all else os.kill)(pid, self.number)

    @property
    def exit_codes(self) -> set[int]:
        """What the command may end with: before it is itself, a signal ends it as the system does."""
        return {-self.number} if self.number == signal.SIGKILL else {128 + self.number, -self.number}


KILLS = (
    Kill(signal.SIGINT, True),
    Kill(signal.SIGTERM, False),
    Kill(signal.SIGTERM, True),
    Kill(signal.SIGKILL, False),
    Kill(signal.SIGKILL, True),
)


@dataclass
class Counts:
    """What became of runs that were killed in one way."""

    kills: int = 0
    slowest: float = 0.0
    """Seconds until everything was gone."""
    faults: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FAULTS, 0))


class Campaign:
    def __init__(self, folder: Path, seed: int, console: Console) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.console = console
        self.counts: dict[str, Counts] = defaultdict(Counts)
        self.slowness = 1.0
        """How much longer a run takes to begin now than the undisturbed one did: the machine may be busy."""
        self.timeline = [0.0]
        """Of the undisturbed run, in seconds: its start, when each artifact appeared, and its end."""
        reference = self.project("undisturbed")
        with self.started(reference) as (process, out):
            started = time.monotonic()
            while process.poll() is None:
                new = _made(reference) - len(self.timeline) + 1
                self.timeline += [time.monotonic() - started] * new
                time.sleep(0.02)
            assert process.returncode == 0, _read(out)
        self.timeline.append(time.monotonic() - started)
        self.expected = {name: digests(record) for name, record in _comparable(reference).items()}
        console.print(f"undisturbed: {len(self.expected)} artifacts, {self.timeline[-1]:.0f} s", highlight=False)

    def project(self, name: str) -> Project:
        folder = self.folder / name
        write_mini_data(folder / "data")
        tree = mini_tree(architectures=mini_tree()["architectures"][:1], **SMALL)
        (folder / "mini.yaml").write_text(yaml.safe_dump({**tree, "baselines": []}), encoding="utf-8")
        return Project(folder)

    @contextmanager
    def started(self, project: Project) -> Iterator[tuple[Process, IO[str]]]:
        """The run of a project's study, in a process group of its own."""
        with (project.folder / "out").open("w+") as out:
            yield project.start("run", str(project.folder / "mini.yaml"), out=out, start_new_session=True), out

    def one_home(self, name: str, kills: int, until: float) -> int:
        """Kill a home's run up to so many times, then let it end; return how often it was killed."""
        project = self.project(name)
        struck: list[Kill] = []
        for _ in range(kills):
            kill = self.random.choice(KILLS)
            if time.monotonic() > until or not self.strike(project, kill):
                break
            struck.append(kill)
        before = _comparable(project)
        with self.started(project) as (process, out):
            code, said = process.wait(), _read(out)
        after = _comparable(project)
        faults = {
            "wrong": sum(digests(record) != self.expected.get(name) for name, record in after.items()),
            "lost": len(self.expected.keys() - after.keys()) + _changed(before, after),
            "tracebacks": int("Traceback" in said),
            "failed again": int(code != 0),
            "left RUNNING": _left_running(project),
        }
        if struck:
            self.note(str(struck[-1]), faults, f"{name} after {', '.join(map(str, struck))}: {said}")
        if not any(faults.values()):
            shutil.rmtree(project.folder)
        return len(struck)

    def strike(self, project: Project, kill: Kill) -> bool:
        """Start the run and kill it at a random moment; False if it ended before."""
        before, there = _comparable(project), _made(project)
        moment = self.random.uniform(0, self.timeline[-1])
        made = bisect_right(self.timeline, moment) - 1
        made = made if made > there else 0
        with self.started(project) as (process, out):
            family = {process.pid: psutil.Process(process.pid)}
            self.reach(project, process, family, made, there)
            pause = self.random.uniform(0, self.timeline[made + 1] - self.timeline[made]) * self.slowness
            self.watch(process, family, lambda since: since > max(pause, 0 if made else SOONEST))
            if process.poll() is not None:
                return False
            kill.strike(process.pid)
            struck = time.monotonic()
            code = process.wait()
            if code == 0:  # Python's own end was near enough
                return False
            left = _wait_for(project, list(family.values()))
            seconds = time.monotonic() - struck
            said = _read(out)
        faults = {
            "lost": _changed(before, _comparable(project)),
            "orphans": left,
            "tracebacks": int("Traceback" in said),
            "wrong exit": int(code not in kill.exit_codes or said.count("interrupted") > 1),
        }
        when = f"with {made or there} artifacts, {pause:.1f} s later"
        self.note(str(kill), faults, f"{project.folder.name}, {kill} {when}, exit code {code}: {said}")
        self.counts[str(kill)].kills += 1
        self.counts[str(kill)].slowest = max(self.counts[str(kill)].slowest, seconds)
        return True

    def reach(self, project: Project, process: Process, family: Family, made: int, there: int) -> None:
        """Wait until the home holds `made` artifacts (0: do not wait); `there` it had at the start."""
        if made:
            begun = self.watch(process, family, lambda since: _made(project) > there)
            self.slowness = max(1.0, begun / self.timeline[1])
            self.watch(process, family, lambda since: _made(project) >= made)

    def watch(self, process: Process, family: Family, enough: Callable[[float], bool]) -> float:
        """Note what a run starts until it ends or `enough` says so of the seconds since; return those."""
        started = time.monotonic()
        while process.poll() is None and not enough(time.monotonic() - started):
            with suppress(psutil.NoSuchProcess):
                family |= {each.pid: each for each in psutil.Process(process.pid).children(recursive=True)}
            time.sleep(0.03)
        return time.monotonic() - started

    def note(self, kill: str, faults: dict[str, int], story: str) -> None:
        for fault, count in faults.items():
            self.counts[kill].faults[fault] += count
        if any(faults.values()):
            self.console.print({name: count for name, count in faults.items() if count}, story[-2000:], highlight=False)

    def table(self) -> Table:
        table = Table("killed by", "kills", "slowest end, s", *FAULTS)
        for kill, counts in sorted(self.counts.items()):
            table.add_row(kill, str(counts.kills), f"{counts.slowest:.1f}", *map(str, counts.faults.values()))
        total = [sum(counts.faults[fault] for counts in self.counts.values()) for fault in FAULTS]
        table.add_row("all", str(sum(counts.kills for counts in self.counts.values())), "", *map(str, total))
        return table


def _comparable(project: Project) -> dict[str, Record]:
    """What is made the same every time: a report says when it was written."""
    return {name: record for name, record in project.records().items() if record.stage != "report"}


def _changed(before: dict[str, Record], after: dict[str, Record]) -> int:
    """Finished artifacts that are gone, or were made again."""
    return sum(after.get(name) != record for name, record in before.items())


def _made(project: Project) -> int:
    return len(list(Path(project.store.root).glob("*/*/record.json")))


def _wait_for(project: Project, family: list[psutil.Process]) -> int:
    """Wait until nobody works for a home any more, and return how many still do; they are then killed."""
    psutil.wait_procs(family, timeout=GONE_SECONDS)
    left = list(_working_for(project))
    for each in left:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    return len(left)


def _working_for(project: Project) -> Iterator[psutil.Process]:
    home = project.environment["TLM_HOME"]
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("TLM_HOME") == home and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _left_running(project: Project) -> int:
    """Runs that MLflow and Prefect still take to be under way."""
    queries = {
        "mlflow/mlflow.db": "select count(*) from runs where status = 'RUNNING'",
        "data/prefect/prefect.db": "select count(*) from flow_run where state_type in ('RUNNING', 'PENDING')",
    }
    found = 0
    for place, query in queries.items():
        with closing(sqlite3.connect(project.folder / "home" / place)) as connection:
            found += connection.execute(query).fetchone()[0]
    return found


def _read(out: IO[str]) -> str:
    out.seek(0)
    return out.read()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.kills", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no kill after so long")
    given = parser.parse_args()
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background job would hand on that it is ignored
    until = time.monotonic() + 60 * given.minutes
    console = Console(width=150, markup=False)
    with tempfile.TemporaryDirectory(prefix="tlm-kills-") as folder:
        campaign = Campaign(Path(folder), given.seed, console)
        left, homes = given.kills, 0
        while left > 0 and time.monotonic() < until:
            homes += 1
            left -= campaign.one_home(f"home-{homes}", min(left, KILLS_PER_HOME), until)
    console.print(campaign.table())
    console.print(f"{given.kills - left} kills in {homes} homes, seed {given.seed}.", highlight=False)
    return int(any(count for counts in campaign.counts.values() for count in counts.faults.values()))


if __name__ == "__main__":
    sys.exit(main())
