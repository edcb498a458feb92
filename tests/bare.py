"""A Python like that of a lent machine: torch and transformers are there, most of what this project needs is not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from helpers import python

from tlm.machine.runtime import PACKAGE_PARENT

ABSENT = ("prefect", "mlflow", "duckdb", "datasets", "typer", "rich", "scipy", "sklearn", "matplotlib", "jinja2")
SITE = f"""
import sys
from importlib.machinery import PathFinder

class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {ABSENT!r} else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Bare
"""
"""Runs as Python starts, in child processes too. It is as if the packages were not installed: whoever asks is told so."""


def bare_python(arguments: list[str], folder: Path) -> Any:
    """Run Python without the absent packages and return the finished process; `folder` holds what makes it so."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(SITE, encoding="utf-8")
    return python(arguments, PYTHONPATH=f"{folder}{os.pathsep}{PACKAGE_PARENT}", OMP_NUM_THREADS="1")
