"""Which items make up which batch, in training and in evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tlm.data.ragged import Rows
from tlm.study.config import Optimisation


@dataclass(frozen=True)
class EpochOrder:
    """Which items make up which step: every item once an epoch, in an order that depends on seed and epoch alone."""

    size: int
    batch_size: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.size / self.batch_size)

    def batch(self, step: int) -> tuple[int, Rows]:
        """(epoch, items) of a 0-based step; an epoch's last batch may be short."""
        epoch, within = divmod(step, self.steps_per_epoch)
        return epoch, epoch_order(self.size, self.seed, epoch)[within * self.batch_size :][: self.batch_size]


def shortened(steps: int, config: Optimisation) -> int:
    """`steps`, or the config's max_steps where that is less. The learning rate then decays over these."""
    return steps if config.max_steps is None else min(steps, config.max_steps)


@lru_cache(maxsize=2)
def epoch_order(size: int, seed: int, epoch: int) -> Rows:
    """The order in which epoch number `epoch` visits the items: a function of seed and epoch alone. Not to be changed."""
    order = np.random.default_rng([seed, epoch, 0xBA7C4]).permutation(size).astype(np.int64)
    order.flags.writeable = False
    return order


def evaluation_batches(lengths: Rows, batch_size: int) -> list[Rows]:
    """Batches of similar length, so that little is padded. The order of items has no effect on their results.

    The longest come first: the memory that they leave holds all that follow. The other way round each batch needs a
    little more than any before it has left, and the heap grows.
    """
    order = np.argsort(lengths, kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)][::-1]
