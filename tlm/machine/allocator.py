"""How the C library treats freed memory, for a process that needs blocks of the same size again and again."""

from __future__ import annotations

import ctypes

MMAP_THRESHOLD = 256 << 20
"""Bytes. Blocks below it stay with the process: every batch has its own width, and glibc would give each large block back
and ask for it anew, which the kernel zeroes page by page (the logits of one batch over 30,522 tokens are 60 MB). Blocks
above it go back, or the heap would grow with every block larger than all before."""
TRIM_THRESHOLD = 8 << 30
"""Bytes of free memory at the heap's end that are not given back."""
ALLOCATORS = {
    "MALLOC_MMAP_THRESHOLD_": str(MMAP_THRESHOLD),
    "MALLOC_TRIM_THRESHOLD_": str(TRIM_THRESHOLD),
    # Arrow's own allocator would reserve 1 GiB for a table of any size, which the memory limit counts.
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}
"""What training processes have in their environment, which glibc reads before anything is allocated."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""The numbers of mallopt's parameters, from glibc's malloc.h."""


def keep_heap() -> None:
    """Set these thresholds in a process that runs already. Without glibc nothing happens; Arrow's pool stays as it is."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, min(TRIM_THRESHOLD, (1 << 31) - 1))  # an int
