"""How long a model takes to answer, and how much of that has to be waited for. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tlm.data.ragged import Rows

WARM_UP = 3
"""Calls before the first that counts: memory is allocated, and kernels are chosen for the shapes."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds of each timed call of one batch size, in order."""

    milliseconds: tuple[float, ...]

    @property
    def p50(self) -> float:
        return float(np.quantile(self.milliseconds, 0.5))

    @property
    def p95(self) -> float:
        return float(np.quantile(self.milliseconds, 0.95))


def measure_latency(
    answer: Callable[[Rows], object],
    items: int,
    batch_size: int,
    repeats: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Latency:
    """Time `repeats` calls of a model on batches of its items, one after another, after a warm-up.

    Args:
        answer: predicts the items at these places, shape (batch_size,), and returns when it is done.
        items: how many there are; batches go through them in order, and begin again at the end.
        clock: seconds.

    Raises:
        ValueError: if there is no item, or a size or number of calls is not positive.
    """
    if items < 1 or batch_size < 1 or repeats < 1:
        raise ValueError(f"items={items}, batch_size={batch_size}, repeats={repeats}: give positive numbers.")
    found = []
    for call in range(WARM_UP + repeats):
        places = np.arange(call * batch_size, (call + 1) * batch_size) % items
        start = clock()
        answer(places)
        found.append(1_000 * (clock() - start))
    return Latency(tuple(found[WARM_UP:]))
