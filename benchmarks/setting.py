"""What a contender is built from."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.cases import Case
from benchmarks.workload import Workload


@dataclass(frozen=True)
class Setting:
    """All that a contender is built from."""

    case: Case
    workload: Workload
    device: str
    bfloat16: bool
    """The device multiplies bfloat16 matrices natively."""
