"""From ragged token ids to batches of [CLS] ids [SEP] in a layout with little padding, and the order of the items."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch

from tlm.data.ragged import Ragged, Rows
from tlm.data.tokenizer import Vocabulary
from tlm.modeling.configuration import TinyBertConfig, TinyGptConfig
from tlm.modeling.layout import Layout
from tlm.study.config import Optimisation

RECTANGLE_FLOP = {"cpu": 2.4e8, "cuda": 3e10}
"""What a device computes in the time that one more rectangle costs a layer in calls (CPU: see docs/performance.md)."""
ROW_MULTIPLE = 32
"""Matrix products of a new shape are compiled first: so few rows are added that the number of shapes stays small."""


@dataclass(frozen=True)
class Packed:
    """Token ids of a batch, row by row in its layout; sequence i of it is item `order_B[i]` of those given."""

    ids_R: torch.Tensor
    layout: Layout
    order_B: Rows


def pack(
    sequences: Ragged,
    items: Rows,
    vocabulary: Vocabulary,
    max_length: int,
    rectangle_cost: int,
) -> Packed:
    """The sequences at `items`, longest first, as [CLS] ids [SEP], with as little padding as pays (`Layout.packed`).

    Sequences longer than max_length - 2 are cut, so that [CLS] and [SEP] always fit. A negative `rectangle_cost` asks
    for one rectangle, all its padding included.
    """
    lengths = with_specials(sequences.lengths[items], max_length)
    order = np.argsort(-lengths, kind="stable")
    items, lengths = items[order], lengths[order]
    layout = _layout(lengths, rectangle_cost)
    batch = sequences.take(items)
    columns = np.arange(len(batch.ids)) - np.repeat(batch.offsets[:-1], batch.lengths)
    ids_R = np.full(len(layout.positions_R), vocabulary.pad, dtype=np.int64)
    first = layout.first_rows().numpy()
    ids_R[first] = vocabulary.cls
    inside = columns < max_length - 2
    ids_R[(np.repeat(first, batch.lengths) + columns + 1)[inside]] = batch.ids[inside]
    ids_R[first + lengths - 1] = vocabulary.sep
    return Packed(torch.from_numpy(ids_R), layout, order)


def with_specials(lengths: Rows, max_length: int) -> Rows:
    """Lengths with [CLS] and [SEP], cut at `max_length`."""
    return np.minimum(lengths, max_length - 2) + 2


def _layout(lengths_B: Rows, rectangle_cost: int) -> Layout:
    if rectangle_cost < 0:
        return Layout.padded(torch.from_numpy(np.arange(lengths_B[0]) < lengths_B[:, None]))
    return Layout.packed(lengths_B, rectangle_cost, ROW_MULTIPLE)


def packer(config: TinyBertConfig | TinyGptConfig, device: str) -> partial[Packed]:
    """`pack` with the rectangle cost of a model on a device."""
    if config.conv_kernel_sizes and config.conv_over_padding:
        return partial(pack, rectangle_cost=-1)
    layer_flop = 24 * config.hidden_size**2
    return partial(pack, rectangle_cost=int(RECTANGLE_FLOP[torch.device(device).type] / (3 * layer_flop)))


@dataclass(frozen=True)
class Order:
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
    """`steps`, or the config's max_steps where that is less. The schedule of a shortened run is its own."""
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
