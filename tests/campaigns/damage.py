"""A random file of a home is damaged, and everything is asked of the home: is anything wrong, lost, or beyond repair?

    python -m tests.campaigns.damage --damages 100 --seed 1

One small study is run once. For each damage its home is put back as it was, one file of it (an artifact's, its record, the
catalogue, MLflow's, Prefect's, a lock) is damaged in one way; `sql`, `verify`, `report` and then `run` are asked, and what
the run leaves is compared with what there was. Where a run refuses with a way out, that is followed, once. The exit code is
1 if anything but zero is in the last columns of the table. `--only 17` repeats one damage and prints all that was said.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pyarrow.csv import write_csv
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from helpers import mini_tree, write_mini_data
from project import Project, digests

from tests.campaigns.asking import UNPRIVILEGED, Said, ask
from tlm.artifacts import catalogue
from tlm.artifacts.housekeeping import verify
from tlm.artifacts.record import RECORD
from tlm.machine.files import remove

SMALL = {"corpus__sizes": [0, 60], "treatments": [], "treatment_architectures": None, "committees": []}
PATIENCE = {"run": 400.0}
"""Seconds after which a command hangs; 120 for those not named."""
QUESTION = "select key, kind, task, system, init, accuracy, test_items from results order by all"
FAULTS = ("wrong", "unnoticed", "lost", "bricked", "tracebacks", "hung", "unclear")
"""`unnoticed`: `verify` does not name a damaged artifact. `unclear`: an error that is not one line."""
Damage = Callable[[Path, random.Random], object]


def flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def replace_by(make: Callable[[Path, random.Random], object]) -> Damage:
    def damage(path: Path, chance: random.Random) -> None:
        path.unlink()
        make(path, chance)

    return damage


def edit(path: Path, chance: random.Random) -> None:
    """As in an editor: any field, also to what no catalogue can hold, and the digest left as it is."""
    tree = json.loads(path.read_text(encoding="utf-8"))
    changes: dict[str, object] = {
        "facts": {**tree["facts"], "test_accuracy": chance.random()},
        "seconds": chance.uniform(0, 1e6),
        "labels": {**tree["labels"], "ws": 2**70},
        "config": {**tree["config"], "seed": float("nan")},
        "created": "2001-01-01T00:00:00+00:00",
        "slug": "../../elsewhere",
        "mlflow": {"run_id": "another", "experiment_id": "1"},
        "provenance": {},
    }
    name = chance.choice(sorted(changes))
    path.write_text(json.dumps({**tree, name: changes[name]}), encoding="utf-8")


LINKS = {
    "itself": lambda path: path,
    "nowhere": lambda path: path.with_name("nowhere"),
    "/dev/zero": lambda path: "/dev/zero",
}
DAMAGES: dict[str, Damage] = {
    "removed": lambda path, chance: path.unlink(),
    "truncated": lambda path, chance: os.truncate(path, chance.randrange(path.stat().st_size)),
    "emptied": lambda path, chance: os.truncate(path, 0),
    "a bit flipped": flip,
    "a folder": replace_by(lambda path, chance: (path / "in it").mkdir(parents=True)),
    "a pipe": replace_by(lambda path, chance: os.mkfifo(path)),
    "a link": replace_by(lambda path, chance: path.symlink_to(LINKS[chance.choice(sorted(LINKS))](path))),
    "no permission": lambda path, chance: path.chmod(0),
    "record edited": edit,
}


@dataclass
class Counts:
    damages: int = 0
    refused: int = 0
    faults: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FAULTS, 0))


class Campaign:
    """A home that is put back as it was, and what it answered when it was whole."""

    def __init__(self, folder: Path, console: Console) -> None:
        self.console = console
        self.whole = folder / "whole"
        self.project = Project(folder / "project")
        write_mini_data(self.project.folder / "data")
        tree = mini_tree(architectures=mini_tree()["architectures"][:1], analysis="ws-sweep", **SMALL)
        (self.project.folder / "mini.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
        self.home = self.project.folder / "home"
        self.document = self.project.folder / "results.md"
        for _ in range(2):  # the second run leaves what only a run over a finished study leaves
            said = self.ask("run", "sql", "report")
            assert all(answer.code == 0 for answer in said.values()), said
        self.rows = _rows(said["sql"].out)
        self.report = self.document.read_text(encoding="utf-8")
        self.made = self.project.records()
        shutil.copytree(self.home, self.whole, symlinks=True)
        console.print(f"undisturbed: {len(self.made)} artifacts, {len(self.rows)} results", highlight=False)

    def ask(self, *commands: str) -> dict[str, Said]:
        """What commands say, one after the other."""
        arguments = {
            "run": ["run", str(self.project.folder / "mini.yaml")],
            "sql": ["sql", QUESTION],
            "report": ["report", "--out", str(self.document)],
            "verify": ["verify"],
        }
        said = ask(
            [arguments[command] for command in commands],
            self.project.environment,
            patience=sum(PATIENCE.get(command, 120.0) for command in commands),
            privileges=UNPRIVILEGED if os.geteuid() == 0 else (),
        )
        return dict(zip(commands, said, strict=True))

    def one(self, number: int, seed: int, *, loud: bool) -> tuple[str, bool, dict[str, int]]:
        """Damage one file: in what way, whether a run was refused, and the faults found."""
        chance = random.Random(f"{seed}-{number}")
        shutil.rmtree(self.home)
        shutil.copytree(self.whole, self.home, symlinks=True)
        path, kind = _choose(self.home, chance)
        DAMAGES[kind](path, chance)
        place = path.relative_to(self.home)
        owner = "/".join(place.parts[2:4]) if place.parts[:2] == ("data", "artifacts") and len(place.parts) > 4 else ""
        faults = dict.fromkeys(FAULTS, 0)
        started = time.monotonic()

        said = self.ask("sql", "verify", "report")
        faults["wrong"] += self._wrong(said["sql"])
        faults["unnoticed"] += bool(owner) and owner not in said["verify"].out
        faults["wrong"] += said["report"].code == 0 and self.document.read_text(encoding="utf-8") != self.report
        said |= self.ask("run")
        refused = said["run"].code == 2
        if refused:
            _follow(path, said["run"].err)
            said["run again"] = self.ask("run")["run"]
        faults["bricked"] += said["run again" if refused else "run"].code != 0
        faults["wrong"] += self._results() != self.rows
        faults["bricked"] += sum(seen.status != "complete" for _, seen in verify(self.project.store))
        faults["wrong"] += self._made_otherwise()
        faults["lost"] += self._lost(owner)
        for answer in said.values():
            faults["tracebacks"] += "Traceback" in answer.everything
            faults["hung"] += answer.code is None
            faults["unclear"] += not answer.is_clear
        if loud or any(faults.values()):
            found = {name: times for name, times in faults.items() if times}
            self.console.print(
                f"{number}: {kind}: {place}: {found or 'nothing wrong'}", highlight=False, soft_wrap=True
            )
            for command, answer in said.items():
                shown = answer.everything if loud else answer.everything[-600:]
                self.console.print(f"  {command} -> {answer.code}: {shown}", highlight=False, soft_wrap=True)
        else:
            seconds = time.monotonic() - started
            self.console.print(f"{number}: {kind}: {place} ({seconds:.0f} s)", highlight=False, soft_wrap=True)
        return kind, refused, faults

    def _results(self) -> list[tuple[str, ...]]:
        """What the catalogue says of the results that a run has left."""
        found = catalogue.query(self.home / "data" / "catalogue.duckdb", QUESTION)
        with io.BytesIO() as out:
            write_csv(found, out)
            return _rows(out.getvalue().decode())

    def _wrong(self, said: Said) -> bool:
        """Whether an answer holds anything but the results there are, or leaves out one without saying so."""
        if said.code != 0:
            return False
        rows = _rows(said.out)
        named = [row for row in self.rows if row not in rows and f"-{row[0][:12]}" in said.err]
        return any(row not in self.rows for row in rows) or len(rows) + len(named) != len(self.rows)

    def _made_otherwise(self) -> int:
        """Artifacts that are other than those of the undisturbed home; a report shows when it was made."""
        now = self.project.records()
        kept = [record for name, record in self.made.items() if record.stage not in ("report", "latency")]
        return sum(digests(now[str(r.ref)]) != digests(r) for r in kept if str(r.ref) in now) + (
            len(now) != len(self.made)
        )

    def _lost(self, owner: str) -> int:
        """Artifacts that were whole and are gone, or were made again."""
        now = self.project.records()
        return sum(now.get(name) != record for name, record in self.made.items() if name != owner)


def _choose(home: Path, chance: random.Random) -> tuple[Path, str]:
    """A file of the home, and a way to damage it: kinds of files come as often as each other, however many there are."""
    kinds: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(home.rglob("*")):
        if path.is_file() and not path.is_symlink():
            place = path.relative_to(home)
            part = "record" if path.name == RECORD and place.parts[0] == "data" else "/".join(place.parts[:2])
            kinds[part].append(path)
    kind = chance.choice(sorted(DAMAGES))
    part = "record" if kind == "record edited" else chance.choice(sorted(kinds))
    files = [path for path in kinds[part] if path.stat().st_size or kind in ("removed", "a folder", "a pipe", "a link")]
    return (chance.choice(files), kind) if files else _choose(home, chance)


def _follow(path: Path, said: str) -> None:
    """Do what an error asks for: make what it names readable, or remove it, a folder around it perhaps."""
    named = next((place for place in (path, *path.parents) if str(place) in said), path)
    if path.is_file() and not path.stat().st_mode & 0o400:
        path.chmod(0o600)
    else:
        remove(named)


def _rows(out: str) -> list[tuple[str, ...]]:
    return sorted(tuple(row) for row in list(csv.reader(io.StringIO(out)))[1:])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.damage", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--damages", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="the number of one damage")
    given = parser.parse_args(arguments)
    console = Console(width=160, markup=False)
    counts: dict[str, Counts] = defaultdict(Counts)
    with tempfile.TemporaryDirectory(prefix="tlm-damage-") as folder:
        campaign = Campaign(Path(folder), console)
        for number in range(given.damages) if given.only is None else [given.only]:
            kind, refused, faults = campaign.one(number, given.seed, loud=given.only is not None)
            counts[kind].damages += 1
            counts[kind].refused += refused
            for name, times in faults.items():
                counts[kind].faults[name] += times
    table = Table("damage", "times", "refused at first", *FAULTS)
    for kind in DAMAGES:
        row = counts[kind]
        table.add_row(kind, str(row.damages), str(row.refused), *(str(row.faults[name]) for name in FAULTS))
    total = {name: sum(row.faults[name] for row in counts.values()) for name in FAULTS}
    table.add_row(
        "all",
        str(sum(row.damages for row in counts.values())),
        str(sum(row.refused for row in counts.values())),
        *(str(times) for times in total.values()),
    )
    console.print(table)
    return int(any(total.values()))


if __name__ == "__main__":
    sys.exit(main())
