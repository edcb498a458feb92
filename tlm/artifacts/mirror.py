"""Checkpoints that follow an object store: copied there while training goes on, so that any machine can go on from them.

A checkpoint carries a digest of its content (`tlm.training.checkpoint`): one that is not whole is not used.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tlm.machine.files import make_folder
from tlm.machine.repeating import repeated

SECONDS = 2.0
"""Between two looks at the folder that a training writes to."""
BLOCK = 8_000_000
PATTERN = "*.safetensors"

log = logging.getLogger(__name__)


@contextmanager
def mirrored(fs: Any, place: str, folder: Path) -> Iterator[None]:
    """Bring the newest checkpoint at `place` into `folder` unless it has a newer one, and copy those written there inside.

    What goes wrong costs a checkpoint, and no training.
    """
    try:
        _bring(fs, place, folder)
    except Exception as error:  # whatever the store's client raises
        log.warning("no checkpoint is brought from %s: %s", place, error)
    last = _newest(folder)

    def follow() -> None:
        nonlocal last
        last = _copy(fs, place, folder, last)

    try:
        with repeated(follow, SECONDS, "checkpoints"):
            yield
    except BaseException:  # whoever goes on needs the last one, too
        follow()
        raise


def _newest(folder: Path) -> str:
    return max((path.name for path in folder.glob(PATTERN)), default="")


def _bring(fs: Any, place: str, folder: Path) -> None:
    there = max((str(path) for path in fs.find(place) if path.endswith(".safetensors")), default="")
    name = there.rsplit("/", 1)[-1]
    if name <= _newest(folder):
        return
    make_folder(folder)
    arriving = folder / f"{name}.arriving-{os.getpid()}"
    fs.get_file(there, str(arriving))
    arriving.replace(folder / name)


def _copy(fs: Any, place: str, folder: Path, last: str) -> str:
    """Copy the newest checkpoint, unless it is the `last` copied one, and remove older copies; return its name."""
    name = _newest(folder)
    if name <= last:
        return last
    try:
        with (folder / name).open("rb") as file, fs.open(f"{place}/{name}", "wb") as copy:
            shutil.copyfileobj(file, copy, BLOCK)
        for old in fs.find(place):
            if str(old).rsplit("/", 1)[-1] < name:
                with suppress(FileNotFoundError):
                    fs.rm_file(old)
        return name
    except FileNotFoundError:  # a newer one has taken its place
        return last
    except Exception as error:
        log.warning("the checkpoint %s is not copied to %s: %s", name, place, error)
        return last
