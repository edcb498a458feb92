"""A study's training on another machine, in a terminal: the bundle that goes out, the artifacts that come home."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from flows.terminal import printable
from tasks.importing import import_folder, prepare_bundle
from tlm.artifacts.step import ArtifactRef
from tlm.artifacts.store import ArtifactStore
from tlm.cost.precision import settled
from tlm.execution.bundle import export_bundle
from tlm.execution.importing import Imported
from tlm.execution.pages import is_page
from tlm.machine.runtime import Runtime
from tlm.planning.preflight import check
from tlm.stages import STAGES
from tlm.study.config import StudyConfig


def import_in_terminal(folder: Path, runtime: Runtime, console: Console) -> None:
    """Import what another machine made and print what became of it; exit code 1 if anything was refused.

    Raises:
        UserError: if the folder holds no artifacts.
    """
    runtime.check_writable()
    with console.status(f"checking what {folder} holds"):
        done = import_folder(folder, runtime)
    console.print(_table(done))
    for ref in filter(is_page, done.imported):
        console.print(f"made again here, not taken over: {ref}", highlight=False, soft_wrap=True)
    for name, reason in sorted(done.refused.items()):
        console.print(f"refused {name}: {reason}", highlight=False, soft_wrap=True)
    store = ArtifactStore(runtime.artifacts)
    bare = sum(bool(store.get(ref).record.left_behind) for ref in done.imported)
    imported = f"{len(done.imported)} artifacts imported{f' ({bare} of them without weights)' if bare else ''}"
    console.print(
        f"{imported}, {len(done.present)} already there, {len(done.refused)} refused.",
        highlight=False,
    )
    if done.refused:
        sys.exit(1)


def export_in_terminal(study: StudyConfig, folder: Path, runtime: Runtime, console: Console) -> None:
    """Check a study, make here what its training starts from, write the bundle, and say what to do with it.

    Raises:
        UserError: for bad input; if nothing is left to train; if the folder is there already.
    """
    notes: list[str] = []
    with console.status("checking the study and its sources"):
        settle = partial(settled, runtime=runtime, say=notes.append)
        planned = check(study, runtime, settle=settle, trains_here=False)
    for line in notes:
        console.print(line, highlight=False, soft_wrap=True)
    with console.status("making what the training starts from"):
        made = prepare_bundle(planned, runtime)
    for record in (outcome.record for outcome in made):
        for note in STAGES[record.stage].notes(record):
            console.print(printable(f"{record.stage}/{record.slug}: {note}."), highlight=False, soft_wrap=True)
    done = export_bundle(planned, ArtifactStore(runtime.artifacts), folder)
    console.print(
        f"{folder}: {len(done.steps)} steps to run, {done.inputs} artifacts they start from "
        f"({len(made)} made now), {done.bytes / 1e6:.1f} MB.",
        highlight=False,
        soft_wrap=True,
    )
    console.print("Copy it to the other machine, beside this code, and there:")
    console.print(f"  python -m tlm.sequential {folder.name}", highlight=False, soft_wrap=True)
    console.print("Copy it back, and here:")
    console.print(f"  tlm import {folder}", highlight=False, soft_wrap=True)


def _table(done: Imported) -> Table:
    columns: list[list[str]] = [_stages(done.imported), _stages(done.present), [n.split("/")[0] for n in done.refused]]
    table = Table("stage", "imported", "already there", "refused")
    for stage in dict.fromkeys(stage for column in columns for stage in column):
        table.add_row(stage, *(str(column.count(stage)) for column in columns))
    return table


def _stages(refs: tuple[ArtifactRef, ...]) -> list[str]:
    return [ref.stage for ref in refs]
