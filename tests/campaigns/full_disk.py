"""A small study is run on disks that are too small: is anything wrong, lost or beyond repair once there is room?

    python -m tests.campaigns.full_disk --levels 10

Every level is a tmpfs of its own size, which holds TLM_HOME; on every other one it holds temporary files, too. Each process
there, children and servers among them, meets the kernel's own "No space left on device" at whatever it writes: a draft, a
record, a checkpoint, a database's journal, a page of one that is mapped into memory. The levels are spread from almost
nothing to what the study needs. Then the disk grows, and the same command is run again. Mounts need root, or a system that
lets users have namespaces; they are seen by this campaign alone. The exit code is 1 if anything but zero is in the last
columns of the table.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from helpers import mini_tree, write_mini_data
from project import Project, digests

from tests.campaigns.asking import Said, ask
from tlm.artifacts.record import Record

INSIDE = "TLM_CAMPAIGN_NAMESPACE"
SMALL = {"corpus__sizes": [60], "treatments": [], "treatment_architectures": None, "committees": [], "baselines": []}
SMALLEST = 64 << 10
ROOM = 1 << 30
"""Bytes of the disk once it has grown."""
PATIENCE = 600.0
"""Seconds after which a run and a check hang."""
FAULTS = ("wrong", "lost", "bricked", "tracebacks", "hung", "unclear")
"""`unclear`: what is told is not one line that says that the disk is full."""


@dataclass
class Level:
    """A size of the disk in bytes, and what became of a run there."""

    size: int
    everything: bool
    """Temporary files are on it, too."""
    said: str = ""
    made: int = 0
    """Artifacts that were whole when the disk was full."""
    faults: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FAULTS, 0))


class Campaign:
    def __init__(self, folder: Path, console: Console) -> None:
        self.folder = folder
        self.console = console
        (folder / "disk").mkdir()
        self.project = Project(folder / "disk")
        write_mini_data(folder / "data")
        tree = mini_tree(architectures=mini_tree()["architectures"][:1], **SMALL)
        (folder / "mini.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
        self._mount(ROOM)
        self.study = ["run", str(folder / "mini.yaml")]
        [said] = self.ask(self.study)
        assert said.code == 0, said
        self.made = self.comparable()
        self.needed = ROOM - _free(folder / "disk")
        home = folder / "disk" / "home"
        self.databases = sum(_size(home / part) for part in ("data/prefect", "mlflow"))
        """Bytes that the databases of Prefect and MLflow take, most of them before anything is made."""
        self._unmount()
        sizes = f"{self.needed / 1e6:.1f} MB, of them {self.databases / 1e6:.1f} MB databases"
        console.print(f"undisturbed: {len(self.made)} artifacts, {sizes}", highlight=False)

    def ask(self, *commands: list[str], here: bool = False) -> list[Said]:
        """What commands answer; `here`, their temporary files are on the disk, too."""
        environment = {**self.project.environment, "TLM_DATA_ROOT": str(self.folder / "data")}
        if here:
            (self.folder / "disk" / "tmp").mkdir(exist_ok=True)
            environment["TMPDIR"] = str(self.folder / "disk" / "tmp")
        return ask(commands, environment, patience=PATIENCE)

    def comparable(self) -> dict[str, Record]:
        """Artifacts that are the same whenever and wherever they are made."""
        return {name: r for name, r in self.project.records().items() if r.stage not in ("report", "latency")}

    def one(self, level: Level) -> None:
        self._mount(level.size)
        full = self.ask(self.study, ["verify"], here=level.everything)
        before = self.comparable()
        level.made = len(self.project.records())
        self._mount(ROOM, remount=True)
        mended = self.ask(self.study, ["verify"])
        after = self.comparable()

        lines = [line for line in full[0].everything.splitlines() if line.startswith(("error:", "failed:"))]
        level.said = lines[0] if lines else "finished"
        told = full[0].code == 2 and full[0].is_clear and "No space is left" in level.said
        level.faults["unclear"] += full[0].code != 0 and not told
        level.faults["wrong"] += full[1].code != 0
        level.faults["wrong"] += sum(digests(r) != digests(self.made[n]) for n, r in after.items() if n in self.made)
        level.faults["lost"] += sum(after.get(name) != record for name, record in before.items())
        level.faults["lost"] += len(self.made.keys() - after.keys())
        level.faults["bricked"] += any(answer.code != 0 for answer in mended)
        for answer in (*full, *mended):
            level.faults["tracebacks"] += "Traceback" in answer.everything
            level.faults["hung"] += answer.code is None
        found = {name: times for name, times in level.faults.items() if times}
        self.console.print(
            f"{level.size:>10,} B: {level.said}: {found or 'nothing wrong'}", highlight=False, soft_wrap=True
        )
        for answer in (*full, *mended) if found else ():
            self.console.print(f"  {answer.code}: {answer.everything[-1_000:]}", highlight=False, soft_wrap=True)
        self._unmount()

    def _mount(self, size: int, *, remount: bool = False) -> None:
        options = f"{'remount,' if remount else ''}size={size}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(self.folder / "disk")], check=True)

    def _unmount(self) -> None:
        for _ in range(60):  # what still ends may hold it for a while
            if subprocess.run(["umount", str(self.folder / "disk")], capture_output=True).returncode == 0:
                return
            time.sleep(1)
        raise RuntimeError(f"{self.folder / 'disk'} stays in use")


def _free(place: Path) -> int:
    status = os.statvfs(place)
    return status.f_bavail * status.f_frsize


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def levels(count: int, databases: int, needed: int) -> list[Level]:
    """Sizes from almost nothing to just under what is needed; two thirds leave room for the databases."""
    first = count // 3
    sizes = [
        *np.linspace(SMALLEST, databases, first, endpoint=False),
        *np.linspace(databases, needed, count - first, endpoint=False),
    ]
    return [Level(int(size), number % 2 == 1) for number, size in enumerate(sizes)]


def enter_namespace(arguments: Sequence[str]) -> None:
    """Start anew where mounts are this process's own; as a user who is root there, if need be."""
    whose = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    os.environ[INSIDE] = "1"
    command = ["unshare", *whose, "--mount", sys.executable, "-m", "tests.campaigns.full_disk", *arguments]
    os.execvp(command[0], command)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.full_disk", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--levels", type=int, default=10)
    given = parser.parse_args(arguments)
    if INSIDE not in os.environ:
        enter_namespace(sys.argv[1:] if arguments is None else arguments)
    console = Console(width=160, markup=False)
    with tempfile.TemporaryDirectory(prefix="tlm-full-disk-") as folder:
        campaign = Campaign(Path(folder), console)
        tried = levels(given.levels, campaign.databases, campaign.needed)
        for level in tried:
            campaign.one(level)
    table = Table("disk, MB", "holds", "whole artifacts", *FAULTS)
    for level in tried:
        numbers = [f"{level.size / 1e6:.2f}", "all" if level.everything else "TLM_HOME", str(level.made)]
        table.add_row(*numbers, *(str(level.faults[name]) for name in FAULTS))
    total = [sum(level.faults[name] for level in tried) for name in FAULTS]
    table.add_row("all", "", "", *map(str, total))
    console.print(table)
    return int(any(total))


if __name__ == "__main__":
    sys.exit(main())
