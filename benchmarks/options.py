"""Options that several benchmarks take."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import machine

Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads (default: all cores).")]
Out = Annotated[Path | None, typer.Option(help="Where results go (default: data/benchmarks in TLM_HOME).")]
Workloads = Annotated[
    Path | None, typer.Option(help="OUT/workloads of an earlier run: its text instead of TLM_DATA_ROOT's.")
]


def results_folder(out: Path | None) -> Path:
    """Where results go."""
    return out or Path(os.environ.get("TLM_HOME") or machine.CHECKOUT) / "data" / "benchmarks"
