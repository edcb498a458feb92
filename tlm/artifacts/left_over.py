"""What processes that died have left in an object store: uploads that were cut short, checkpoints, leases and probes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta

from tlm.artifacts.fingerprint import SHORT
from tlm.artifacts.listing import Info, written
from tlm.artifacts.probe import PROBE

LEASES, MIRRORED = ".leases", ".checkpoints"
CLOCKS_HOURS = 1
"""By how much the clocks of this machine and of a store may differ."""


def left_over(
    listed: Mapping[str, Info], root: str, parts: Collection[str], needed: Iterable[str], hours: float
) -> dict[str, int]:
    """The files among those listed below `root` that were left more than `hours` ago, by path, and their bytes.

    A lease that was renewed within CLOCKS_HOURS may be somebody's, and so may what was uploaded of its key.

    Args:
        parts: the files of artifacts.
        needed: the beginnings of the keys whose checkpoints are kept.
    """
    now = datetime.now(UTC)
    since, of_the_dead = (now - timedelta(hours=each) for each in (hours, max(hours, CLOCKS_HOURS)))
    leases = {path: written(info) for path, info in listed.items() if path.startswith(f"{root}/{LEASES}/")}
    alive = {path.rpartition("/")[2][:SHORT] for path, renewed in leases.items() if renewed >= of_the_dead}
    kept, left = {*needed} | alive, {}
    for path, info in listed.items():
        match path.removeprefix(f"{root}/").split("/"):
            case [place, key, *_] if place == MIRRORED:
                is_left = key not in kept and written(info) < since
            case [name, *_] if name == LEASES or name.startswith(PROBE):
                is_left = written(info) < of_the_dead
            case [stage, folder, _, _, *_] if not stage.startswith("."):
                is_left = path not in parts and folder[-SHORT:] not in alive and written(info) < since
            case _:
                is_left = False
        if is_left:
            left[path] = int(info["size"])
    return left
