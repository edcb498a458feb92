"""Where artifacts are built before they are published: a lock for each key, drafts, and checkpoints of trainings."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tlm.artifacts.fingerprint import SHORT
from tlm.artifacts.step import ArtifactRef
from tlm.machine.files import locked, make_folder, remove

DRAFTS = ".drafts"
LOCKS = ".locks"
CHECKPOINTS = ".checkpoints"


class BuildingPlace:
    """On this machine: inside a store that is on its disk, so that publishing is one move; beside it otherwise."""

    def __init__(self, root: str, is_local: bool) -> None:
        self.root = root
        self.is_local = is_local

    @contextmanager
    def lock(self, ref: ArtifactRef) -> Iterator[None]:
        """Let one process at a time on this machine build a key. The kernel releases the lock however its holder ends."""
        with locked(self._locks / f"{ref.key}.lock"):
            yield

    @contextmanager
    def draft(self, ref: ArtifactRef) -> Iterator[Path]:
        """A local folder to build an artifact in, removed afterwards unless it was published. Call with the lock held."""
        base = Path(self.root) / DRAFTS if self.is_local else Path(tempfile.gettempdir()) / "tlm-drafts"
        make_folder(base)
        for abandoned in base.glob(f"{ref.key[:SHORT]}-*"):
            remove(abandoned)
        folder = Path(tempfile.mkdtemp(prefix=f"{ref.key[:SHORT]}-", dir=base))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def checkpoints(self, ref: ArtifactRef) -> Path:
        """A local folder for checkpoints: it outlives an interrupted training and goes once the artifact is published."""
        return self._checkpoints / ref.key[:SHORT]

    def abandoned(self) -> list[Path]:
        """Drafts whose process has died."""
        if not self.is_local:
            return []
        return [d for d in sorted((Path(self.root) / DRAFTS).glob("*")) if not self._is_building(d.name[:SHORT])]

    def idle_checkpoints(self) -> list[Path]:
        """Folders of checkpoints that no living process writes, each named by the beginning of its key."""
        return [c for c in sorted(self._checkpoints.glob("*")) if not self._is_building(c.name)]

    @property
    def _checkpoints(self) -> Path:
        if self.is_local:
            return Path(self.root) / CHECKPOINTS
        return Path(tempfile.gettempdir()) / f"tlm-checkpoints-{os.getuid()}"

    @property
    def _locks(self) -> Path:
        return Path(self.root) / LOCKS if self.is_local else Path(tempfile.gettempdir()) / "tlm-locks"

    def _is_building(self, short_key: str) -> bool:
        return any(_is_held(lock) for lock in self._locks.glob(f"{short_key}*.lock"))


def _is_held(path: Path) -> bool:
    from filelock import FileLock

    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except TimeoutError:
        return True
    except OSError:  # it is no lock: whoever needs it puts one in its place
        return False
    lock.release()
    return False
