"""Which precision "auto" means: bfloat16 where the device computes with it, float32 elsewhere. Imports no torch."""

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
    """What "auto" means on a device ("cpu" or "cuda"). Every GPU that current torch supports well has bfloat16."""
    if device == "cuda" or cpu_flags() & BFLOAT16_FLAGS:
        return "bfloat16"
    return "float32"


def processor() -> str:
    """The processor's name and those of its instructions that matter here, for a report."""
    found = sorted(cpu_flags() & {*BFLOAT16_FLAGS, "avx2", "avx512f", "avx512_vnni"})
    return f"{platform.machine()} with {', '.join(found)}" if found else platform.machine()
