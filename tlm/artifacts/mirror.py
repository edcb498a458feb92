"""Checkpoints that follow an object store: copied there while training goes on, so that any machine can go on from them.

A checkpoint carries a digest of its content (`tlm.training.checkpoint`): a training passes over one that is not whole, and
goes on from the one before, which is why two are kept.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tlm.machine.files import make_folder
from tlm.machine.repeating import repeated

SECONDS = 2.0
"""Between two looks at the folder that a training writes to."""
PATTERN = "*.safetensors"
KEPT = 2
"""The newest checkpoint and the one before."""

log = logging.getLogger(__name__)


@contextmanager
def mirrored(fs: Any, place: str, folder: Path) -> Iterator[None]:
    """Bring the newest checkpoints at `place` into `folder` unless it has newer ones, and copy those written there inside.

    What this training writes is the truth: a checkpoint in the store that it did not go on from, although it is of a later
    step, was of no use to it, and gives way to its next.

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
    newest = _newest(folder)
    names = sorted((name for name in _there(fs, place) if name > newest), reverse=True)
    for name in names[:KEPT]:
        make_folder(folder)
        arriving = folder / f"{name}.arriving-{os.getpid()}"
        try:
            fs.get_file(f"{place}/{name}", str(arriving))
            arriving.replace(folder / name)
        except Exception as error:
            log.warning("the checkpoint %s is not brought from %s: %s", name, place, error)
            arriving.unlink(missing_ok=True)


def _there(fs: Any, place: str) -> list[str]:
    return [str(path).rsplit("/", 1)[-1] for path in fs.find(place) if str(path).endswith(".safetensors")]


def _copy(fs: Any, place: str, folder: Path, last: str) -> str:
    """Copy the newest checkpoint, unless it is the `last` copied one; remove all but the one before. Returns its name."""
    name = _newest(folder)
    if name in ("", last):
        return last
    try:
        fs.put_file(str(folder / name), f"{place}/{name}")  # it appears there whole, or not at all
        there = _there(fs, place)
        kept = sorted(old for old in there if old <= name)[-KEPT:]
        for other in {*there} - {*kept}:
            with suppress(FileNotFoundError):
                fs.rm_file(f"{place}/{other}")
        return name
    except FileNotFoundError:  # a newer one has taken its place
        return last
    except Exception as error:
        log.warning("the checkpoint %s is not copied to %s: %s", name, place, error)
        return last
