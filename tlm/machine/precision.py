"""Which precisions a device has instructions for. Whether they make it faster is measured (`tlm.cost.precision`)."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Literal

Resolved = Literal["float32", "bfloat16"]

BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""/proc/cpuinfo's names, of x86 and of Arm, for instructions that multiply bfloat16."""


@cache
def cpu_flags(path: str = "/proc/cpuinfo") -> frozenset[str]:
    """What the processor can do, in the kernel's words; empty where the kernel does not say."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    named = (line.partition(":") for line in lines)
    return frozenset(
        flag for name, _, flags in named if name.strip() in ("flags", "Features") for flag in flags.split()
    )


def native_precision(device: str) -> Resolved:
    """bfloat16 if a device ("cpu" or "cuda") has instructions for it. Every GPU that current torch supports well has them.

    It is what "auto" means to training code that is called without a plan; plans have it settled by measurement before.
    """
    if device == "cuda" or cpu_flags() & BFLOAT16_FLAGS:
        return "bfloat16"
    return "float32"


def processor() -> str:
    """The processor's name and those of its instructions that matter here, for a report."""
    found = sorted(cpu_flags() & {*BFLOAT16_FLAGS, "avx2", "avx512f", "avx512_vnni"})
    return f"{platform.machine()} with {', '.join(found)}" if found else platform.machine()


@cache
def processor_name(path: str = "/proc/cpuinfo") -> str:
    """The first processor's name as the kernel has it, or what Python calls it."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
