"""The machine and the process: what the results depend on besides the code. Imports torch only inside functions."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from tlm.machine.allocator import ALLOCATORS
from tlm.machine.precision import cpu_flags, processor_name

CHECKOUT = Path(__file__).resolve().parent.parent
FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_tile", "asimd", "bf16", "i8mm", "sve")
"""Processor flags worth a place in the table."""


def environment(threads: int) -> dict[str, str]:
    """The environment of a measured process: a training process's allocators, for the baseline as well."""
    return {**ALLOCATORS, **os.environ, "OMP_NUM_THREADS": str(threads)}


def restart_in(wanted: dict[str, str], module: str) -> None:
    """Replace this process by one with the environment `wanted`, unless it has it: glibc reads its settings once."""
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]], wanted)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def facts(device: str, threads: int) -> dict[str, str]:
    """What stands under the table and in each line of the CSV."""
    import torch
    import transformers

    commit = _git("rev-parse", "HEAD")
    return {
        "commit": (commit or "unknown") + (" with changes" if commit and _git("status", "--porcelain") else ""),
        "processor": processor_name(),
        "flags": " ".join(flag for flag in FLAGS if flag in cpu_flags()),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "threads": str(threads),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "allocators, all contenders'": " ".join(f"{name}={os.environ.get(name, '')}" for name in ALLOCATORS),
    }


def cpu_seconds() -> tuple[float, float]:
    """Seconds for which the machine's cores have been busy (or taken by the hypervisor), and this process's part of it.

    NaN without Linux's /proc/stat.
    """
    own = os.times()
    try:
        first = Path("/proc/stat").read_text().splitlines()[0].split()
    except OSError:
        return math.nan, own.user + own.system
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(ticks) for ticks in first[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK"), own.user + own.system


def peak_memory(device: str) -> int:
    """Bytes: the most that torch had allocated on the GPU, or that this process had resident (Linux's VmHWM).

    Not getrusage's ru_maxrss: that survives exec, so a child begins with the peak of the process that started it.
    """
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise OSError("/proc/self/status has no VmHWM")


def _git(*arguments: str) -> str:
    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 10}
    try:
        return str(subprocess.run(["git", "-C", str(CHECKOUT), *arguments], **options).stdout).strip()
    except (OSError, subprocess.SubprocessError):
        return ""
