"""The memory limit: what the machine and its control groups leave, or what is asked for; beyond it allocations fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import python

from tlm.errors import BatchTooLarge, UserError
from tlm.machine.memory import GIB, free_memory, limit_memory
from tlm.machine.runtime import Runtime

MIB = 1 << 20


def machine(root: Path, files: dict[str, str]) -> Path:
    """A machine with 1000 MiB free; `files` by their path."""
    meminfo = "MemTotal: 4096000 kB\nMemAvailable: 1024000 kB\nSwapFree: 0 kB\n"
    status = "Name:\tpython\nVmData:\t  10240 kB\n"
    for path, text in {"proc/meminfo": meminfo, "proc/self/status": status, **files}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def group(
    folder: str, limit: str, used: int, cache: int = 0, names: str = "memory.max memory.current"
) -> dict[str, str]:
    """The files of a control group; numbers in MiB."""
    allowed, current = names.split()
    statistics = f"anon 5\nactive_file {cache * MIB}\ninactive_file 0\n"
    files = {allowed: limit, current: str(used * MIB), "memory.stat": statistics}
    return {f"sys/fs/cgroup/{folder}/{name}": text for name, text in files.items()}


V1 = "memory.limit_in_bytes memory.usage_in_bytes"
MACHINES = {
    "no control groups": ({}, 1000),
    "swap": ({"proc/meminfo": "MemAvailable: 1024000 kB\nSwapFree: 204800 kB\n"}, 1200),
    "unlimited group": ({"proc/self/cgroup": "0::/user\n", **group("user", "max\n", 300)}, 1000),
    "limited group": ({"proc/self/cgroup": "0::/user\n", **group("user", str(500 * MIB), 300)}, 200),
    "cache is given back": ({"proc/self/cgroup": "0::/user\n", **group("user", str(500 * MIB), 300, 100)}, 300),
    "limit further up": (
        {"proc/self/cgroup": "0::/a/b\n", **group("a/b", "max", 1), **group("a", str(400 * MIB), 100)},
        300,
    ),
    "a container that knows its outer path": (
        {"proc/self/cgroup": "0::/docker/123\n", **group("", str(600 * MIB), 100)},
        500,
    ),
    "more used than allowed": ({"proc/self/cgroup": "0::/user\n", **group("user", str(100 * MIB), 300)}, 0),
    "version 1": (
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/\n4:memory:/jobs\n0::/\n",
            **group("memory/jobs", str(700 * MIB), 100, names=V1),
        },
        600,
    ),
    "version 1 without a limit": (
        {"proc/self/cgroup": "4:memory:/\n", **group("memory", str(2**63 - 4096), 100, names=V1)},
        1000,
    ),
}


@pytest.mark.parametrize("name", MACHINES)
def test_free_memory_is_what_machine_and_control_groups_leave(name: str, tmp_path: Path) -> None:
    files, expected = MACHINES[name]
    assert free_memory(machine(tmp_path, files)) == expected * MIB


@pytest.mark.parametrize(("gib", "expected"), [(None, 10 * MIB + int(0.95 * 1000 * MIB)), (0.5, GIB // 2)])
def test_the_limit_is_what_is_asked_for_or_free(
    gib: float | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    set_to: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda *given: set_to.append(given))
    limit_memory(gib, machine(tmp_path, {}))
    assert set_to == [(resource.RLIMIT_DATA, (expected, resource.getrlimit(resource.RLIMIT_DATA)[1]))]


def test_without_proc_there_is_no_default_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.setrlimit", lambda *given: pytest.fail("a limit was set"))
    limit_memory(None, tmp_path)


def test_less_than_the_process_already_holds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"memory_gib=0.001 is less than the 0.01 GiB .* Set TLM_MEMORY_GIB to more"):
        limit_memory(0.001, machine(tmp_path, {}))


@pytest.mark.parametrize("given", ["0", "-1", "much", "nan", "inf"])
def test_a_limit_that_is_none_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLM_MEMORY_GIB", given)
    with pytest.raises(UserError, match="memory_gib"):
        Runtime.from_environment()


def test_the_limit_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLM_MEMORY_GIB", "1.5")
    assert Runtime.from_environment().memory_gib == 1.5


def test_a_batch_too_large_keeps_its_size_on_the_way_between_processes() -> None:
    make, arguments = BatchTooLarge("out of memory.", items=64).__reduce__()
    again = make(*arguments)
    assert isinstance(again, BatchTooLarge) and again.items == 64
    assert str(again) == "out of memory. Set a smaller batch_size."


BEYOND = """
import numpy, torch
from tlm.machine.memory import limit_memory
from tlm.training.memory import out_of_memory
limit_memory(1.0)
allocations = {
    "torch": lambda: torch.empty(1 << 30, dtype=torch.uint8),
    "a product": lambda: torch.ones(20_000, 10) @ torch.ones(10, 20_000),
    "numpy": lambda: numpy.empty(1 << 30, dtype=numpy.uint8),
    "python": lambda: bytearray(1 << 30),
}
for name, allocate in allocations.items():
    try:
        allocate()
    except Exception as error:
        assert out_of_memory(error), repr(error)
        print(name, "failed")
kept = torch.empty(1 << 26, dtype=torch.uint8)
print("then", "fine")
"""


def test_beyond_the_limit_every_allocator_fails_with_an_error_that_is_known() -> None:
    done = python(BEYOND, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "torch failed",
        "a product failed",
        "numpy failed",
        "python failed",
        "then fine",
    ]
