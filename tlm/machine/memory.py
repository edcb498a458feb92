"""A limit on a training process's memory: a batch too large becomes an error that says so, not the kernel's kill."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

from tlm.errors import UserError

GIB = 1 << 30
WAYS_TO_NEED_LESS = "a smaller model, a shorter max_length, fewer TLM_WORKERS or a higher TLM_MEMORY_GIB"
"""What an error recommends where not even one item fits."""
LEFT_FREE = 0.05
"""Share of the machine's free memory that a process leaves alone: the kernel's own needs are not counted."""
CGROUPS = {
    "": ("sys/fs/cgroup", "memory.max", "memory.current"),
    "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
}
"""For each controller (the one of version 2 has no name): its mount point, its file of the limit, its file of the usage."""


def limit_memory(gib: float | None, root: Path = Path("/")) -> None:
    """Make allocations in this process fail beyond `gib`, or by default beyond what the machine can still give.

    The limit is RLIMIT_DATA: heap, anonymous maps and thread stacks, touched or not; files mapped for reading do not count.
    Without /proc (not Linux) there is no default limit.

    Raises:
        UserError: if this process already uses more.
    """
    try:
        used = _numbers(root / "proc/self/status")["VmData"]
        room = free_memory(root)
    except OSError:
        used, room = 0, None
    if gib is None and room is None:
        return
    limit = int(gib * GIB) if gib is not None else used + int((1 - LEFT_FREE) * (room or 0))
    if gib is not None and limit <= used:
        raise UserError(
            f"memory_gib={gib} is less than the {used / GIB:.2f} GiB that a training process needs before any batch.",
            "Set TLM_MEMORY_GIB to more, or unset it.",
        )
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def free_memory(root: Path = Path("/")) -> int:
    """Bytes that a process can still take before the kernel kills one, in the machine and in each of its own cgroups.

    Raises OSError without /proc.
    """
    machine = _numbers(root / "proc/meminfo")
    return min([machine["MemAvailable"] + machine.get("SwapFree", 0), *_free_in_cgroups(root)])


def _free_in_cgroups(root: Path) -> Iterator[int]:
    listed = root / "proc/self/cgroup"
    for line in listed.read_text().splitlines() if listed.exists() else ():
        _, controllers, own = line.split(":", 2)
        for controller in set(controllers.split(",")) & set(CGROUPS):
            mount, allowed, used = CGROUPS[controller]
            top = root / mount
            here = top / own.lstrip("/")
            # Inside a container the path may be the host's, of which only the top is visible.
            for folder in (here, *(parent for parent in here.parents if parent.is_relative_to(top))):
                try:
                    limit = (folder / allowed).read_text().strip()
                    if limit != "max":
                        yield max(0, int(limit) - int((folder / used).read_text()) + _cache(folder))
                except OSError:  # not there, or not for us to read
                    continue


def _cache(folder: Path) -> int:
    """Bytes of cached files, which the kernel drops before it kills a process."""
    statistics = _numbers(folder / "memory.stat")
    return sum(statistics.get(f"total_{name}", statistics.get(name, 0)) for name in ("active_file", "inactive_file"))


def _numbers(file: Path) -> dict[str, int]:
    """The values of lines like `name: 12 kB` or `name 12`, in bytes; other lines are left out."""
    rows = (line.replace(":", " ").split() for line in file.read_text().splitlines())
    return {
        row[0]: int(row[1]) * (1024 if row[2:] == ["kB"] else 1) for row in rows if len(row) > 1 and row[1].isdigit()
    }
