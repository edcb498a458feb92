"""Where artifacts are built before they are published: a lock for each key, drafts, and checkpoints of trainings."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tlm.artifacts.bucket import Bucket
from tlm.artifacts.disk import Disk
from tlm.artifacts.fetched import own_folder
from tlm.artifacts.fingerprint import SHORT
from tlm.artifacts.step import ArtifactRef
from tlm.machine.files import locked, make_folder, remove

DRAFTS = ".drafts"
LOCKS = ".locks"
CHECKPOINTS = ".checkpoints"


class BuildingPlace:
    """On this machine: inside a store that is on its disk, so that publishing is one move; in a folder of this user's own
    otherwise."""

    def __init__(self, shelf: Disk | Bucket) -> None:
        self.shelf = shelf
        self.root = shelf.root
        self.is_local = isinstance(shelf, Disk)

    @contextmanager
    def lock(self, ref: ArtifactRef) -> Iterator[None]:
        """Let one process at a time build a key. On this machine the kernel releases the lock however its holder ends; in
        an object store there is a lease besides, which others take over when it is lost."""
        with locked(self._locks / f"{ref.key}.lock"), self.shelf.lease(ref.key, self._locks):
            yield

    @contextmanager
    def draft(self, ref: ArtifactRef) -> Iterator[Path]:
        """A local folder to build an artifact in, removed afterwards unless it was published. Call with the lock held."""
        base = self._base / DRAFTS
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

    @contextmanager
    def checkpoints_kept(self, ref: ArtifactRef) -> Iterator[None]:
        """Inside, checkpoints outlive this machine if the store does."""
        with self.shelf.mirrored(ref.key, self.checkpoints(ref)):
            yield

    def abandoned(self) -> list[Path]:
        """Drafts whose process has died."""
        return [d for d in sorted((self._base / DRAFTS).glob("*")) if not self._is_building(d.name[:SHORT])]

    def idle_checkpoints(self) -> list[Path]:
        """Folders of checkpoints that no living process writes, each named by the beginning of its key."""
        return [c for c in sorted(self._checkpoints.glob("*")) if not self._is_building(c.name)]

    @property
    def _base(self) -> Path:
        return Path(self.root) if self.is_local else own_folder()

    @property
    def _checkpoints(self) -> Path:
        return self._base / CHECKPOINTS

    @property
    def _locks(self) -> Path:
        return self._base / LOCKS

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
