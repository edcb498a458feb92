"""From ragged token ids to batches of [CLS] ids [SEP] in a layout with little padding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from tlm.data.ragged import Ragged, Rows
from tlm.data.tokenizer import Vocabulary
from tlm.modeling.layout import Layout

RECTANGLE_FLOP = {"cpu": 2.4e8, "cuda": 3e10}
"""Operations that a device could do in the time that the calls for one more rectangle cost a layer (CPU: measured, see
docs/performance.md)."""
ROW_MULTIPLE = 32
"""The rows of a batch are rounded up to a multiple of it, so that few shapes occur: a matrix product of a new shape is
compiled first."""


@dataclass(frozen=True)
class Packed:
    """Token ids of a batch, row by row in its layout; sequence i of it is item `order_B[i]` of those given."""

    ids_R: torch.Tensor
    layout: Layout
    order_B: Rows


Pack = Callable[[Ragged, Rows, Vocabulary, int], Packed]
"""(sequences, the items that make up the batch, vocabulary, max_length) → their batch, as `pack` makes it."""


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


def packer(hidden_size: int, device: str) -> Pack:
    """`pack` with the rectangle cost of a transformer of that width on a device."""
    return partial(pack, rectangle_cost=rectangle_cost(hidden_size, device))


def rectangle_cost(hidden_size: int, device: str) -> int:
    """How many rows of a transformer of that width are worth one more rectangle."""
    layer_flop = 24 * hidden_size**2
    return int(RECTANGLE_FLOP[torch.device(device).type] / (3 * layer_flop))


def padder() -> Pack:
    """`pack` for models that read the padding too: one rectangle, all of it included."""
    return partial(pack, rectangle_cost=-1)
