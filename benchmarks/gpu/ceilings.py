"""What the device can do at most: copying memory, and multiplying matrices of random numbers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.gpu.session import Session, synchronize

REPEATS, BLOCKS = 10, 5


def ceilings(session: Session) -> dict[str, Any]:
    """Bytes read and written a second by a copy, and operations a second of products, the median of a few blocks.

    The large product is the ceiling that everything is put in relation to; those of a batch's shapes say how much of it
    products of that size can reach.
    """
    small = session.device == "cpu"
    numbers = (1 << 22) if small else (1 << 30)
    seconds = _copy_seconds(numbers, session.device)
    found: dict[str, Any] = {"copy_bytes_per_second": 2 * 4 * numbers / seconds}
    sizes = {"matmul": (512,) * 3 if small else (8192,) * 3}
    if not small:
        sizes |= {"up_3072": (3072, 768, 3072), "down_3072": (3072, 3072, 768), "qkv_3072": (3072, 768, 2304)}
        sizes |= {"gradient_3072": (3072, 3072, 768), "vocabulary": (512, 768, 30528)}
    for name, (rows, inner, columns) in sizes.items():
        seconds = _product_seconds(rows, inner, columns, session.device)
        found[f"{name}_flops_per_second"] = 2 * rows * inner * columns / seconds
    return found


def _copy_seconds(numbers: int, device: str) -> float:
    source, target = torch.randn(numbers, device=device), torch.empty(numbers, device=device)
    return timed(lambda: target.copy_(source), device)


def _product_seconds(rows: int, inner: int, columns: int, device: str) -> float:
    """Of x wᵀ in bfloat16, as a linear map has it."""
    left = torch.randn(rows, inner, device=device).bfloat16()
    right = torch.randn(columns, inner, device=device).bfloat16().t()
    out = left @ right
    return timed(lambda: torch.mm(left, right, out=out), device)


def timed(work: Callable[[], Any], device: str) -> float:
    """Seconds of one call, the median of blocks, after a warm-up."""
    blocks = []
    for _ in range(BLOCKS + 1):
        synchronize(device)
        start = time.perf_counter()
        for _ in range(REPEATS):
            work()
        synchronize(device)
        blocks.append((time.perf_counter() - start) / REPEATS)
    return statistics.median(blocks[1:])
