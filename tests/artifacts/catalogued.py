"""A home with a catalogue: where things are in it, and copies of it that a test may change."""

from __future__ import annotations

import shutil
from pathlib import Path

from tlm.artifacts import catalogue
from tlm.artifacts.store import ArtifactStore

ROOT = Path(catalogue.__file__).parents[2]
EMPTY_HERE = ("likelihood", "likelihood_items", "likelihood_groups", "likelihood_units", "studies")
"""Marts of evaluations that the study here does not ask for, and of its report, which is not made."""


def store_of(home: Path) -> ArtifactStore:
    return ArtifactStore(f"{home}/data/artifacts")


def path_of(home: Path) -> Path:
    return home / "data" / "catalogue.duckdb"


def value(home: Path, sql: str, *parameters: object) -> object:
    return catalogue.query(path_of(home), sql, list(parameters)).column(0)[0].as_py()


def copy(home: Path, to: Path) -> Path:
    shutil.copytree(home, to)
    return to


def part(home: Path, to: Path) -> Path:
    """Two artifacts of each of some stages."""
    for stage in ("source", "task", "finetune", "baseline"):
        for folder in sorted((home / "data/artifacts" / stage).iterdir())[:2]:
            shutil.copytree(folder, to / "data/artifacts" / stage / folder.name)
    return to


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
