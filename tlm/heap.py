"""How the C library treats freed memory, for a process that needs blocks of the same size again and again."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of malloc.h."""


def keep_heap() -> None:
    """From now on keep what is freed (glibc; elsewhere nothing happens), or the kernel zeroes it anew for each batch.

    Training processes get the same from their environment, which glibc reads before anything is allocated.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
