"""Who has runs open in MLflow: for each study that is run, a note, and a lock that its process holds.

The kernel releases the lock however the process ends. A note whose lock nobody holds is that of a process that died, or
ended before MLflow had taken everything: the next process that comes by settles it (`tasks.tracking.settling`).
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tlm.machine.runtime import Runtime

Note = dict[str, Any]

_held: dict[Path, FileLock] = {}
"""The locks of this process, by note."""


def folder_of(runtime: Runtime) -> Path:
    return runtime.mlflow_folder / "processes"


def begin(folder: Path, note: Note) -> str:
    """Leave a note and hold its lock; return the note's name."""
    folder.mkdir(parents=True, exist_ok=True)
    name = uuid.uuid4().hex
    path = _note(folder, name)
    lock = _lock(path)
    lock.acquire()
    _held[path] = lock
    amend(folder, name, note)
    return name


def amend(folder: Path, name: str, note: Note) -> None:
    """Write a note anew, whole or not at all."""
    path = _note(folder, name)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(note), encoding="utf-8")
    os.replace(draft, path)


def end(folder: Path, name: str) -> None:
    """Remove a note: nothing is left to settle."""
    path = _note(folder, name)
    path.unlink(missing_ok=True)
    release(folder, name)
    path.with_suffix(".lock").unlink(missing_ok=True)


def release(folder: Path, name: str) -> None:
    """Let go of a note that others are to settle."""
    if lock := _held.pop(_note(folder, name), None):
        lock.release()


def is_here(folder: Path, name: str) -> bool:
    """Whether this process holds the note."""
    return _note(folder, name) in _held


def is_alive(folder: Path, name: str) -> bool | None:
    """Whether the process that left a note lives; None if no such note is in this home."""
    path = _note(folder, name)
    if not path.is_file():
        return None
    lock = _lock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def left_behind(folder: Path) -> Iterator[tuple[str, Note]]:
    """Every note without a living process, held for as long as the caller is at it."""
    for path in sorted(folder.glob("*.json")):
        lock = _lock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        _held[path] = lock
        try:
            with suppress(FileNotFoundError):  # another process has just settled it
                yield path.stem, _read(path)
        finally:
            release(folder, path.stem)


def _read(path: Path) -> Note:
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # a disk that lost what was written
        note = {}
    return note if isinstance(note, dict) else {}


def _note(folder: Path, name: str) -> Path:
    return folder / f"{Path(name).name}.json"


def _lock(path: Path) -> FileLock:
    return FileLock(path.with_suffix(".lock"), thread_local=False)
