"""How the bytes of a batch lie in memory: texts as ever, and beside them their patches, as two further layouts.

A text is a begin, its patches, and an end. Every patch is a sequence of its own in the layout `bytes`, of its bytes and its
end; every text is one of its begin and its patches in the layout `core`. Neither has much padding (`Layout.packed`).

Shapes: R rows of texts, S patches, Q rows of the patches' layout, C rows of the core's layout, B texts.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tlm.data.byte_patches import EOP, PAD
from tlm.data.ragged import Ragged, Rows
from tlm.data.tokenizer import Vocabulary
from tlm.modeling.layout import Layout
from tlm.modeling.packing import ROW_MULTIPLE, Packed, pack, rectangle_cost


@dataclass(frozen=True)
class PatchLayout(Layout):
    """The layout of a batch's texts, with those of their patches and of what the core reads."""

    bytes: Layout
    core: Layout
    from_Q: Tensor
    """For each row of the patches, the row of the texts that it holds; for padding an arbitrary one."""
    patch_C: Tensor
    """For each row of the core, its patch; S for a begin, and for padding."""
    before_S: Tensor
    """For each patch, the core's row before its own: what it is predicted from."""
    patch_Q: Tensor
    """For each row of the patches, its patch."""
    row_R: Tensor
    """For each row of the texts but begins, its row of the patches."""
    last_B: Tensor
    """For each text, where it is among the core's sequences."""

    @property
    def patches(self) -> int:
        return self.bytes.sequences

    def to(self, device: str | torch.device) -> PatchLayout:
        each, core = self.bytes.to(device), self.core.to(device)
        rest = [field.name for field in fields(self) if field.name not in ("rectangles", "bytes", "core")]
        tensors: dict[str, Any] = {name: getattr(self, name).to(device, non_blocking=True) for name in rest}
        return PatchLayout(rectangles=self.rectangles, bytes=each, core=core, **tensors)

    @staticmethod
    def of(ids_R: Tensor, layout: Layout, costs: tuple[int, int]) -> PatchLayout:
        """Of texts that lie in `layout`, each with a begin.

        `costs` are those of a rectangle (`Layout.packed`) for patches and for the core. ValueError if an id is neither a
        byte nor an end.
        """
        ids, real = ids_R.cpu().numpy(), layout.real_R.cpu().numpy()
        positions, text_of = layout.positions_R.cpu().numpy(), layout.sequence_of().numpy()
        rows = np.flatnonzero(real & (positions > 0))
        if ((ids[rows] < 0) | (ids[rows] > EOP)).any():
            raise ValueError(f"an id is neither a byte nor the end of a patch ({EOP})")
        # A patch begins a text, and follows an end.
        begins = (positions[rows] == 1) | (ids[rows - 1] == EOP)
        firsts = np.flatnonzero(begins)
        sizes = np.diff(firsts, append=len(rows))
        order = np.argsort(-sizes, kind="stable")
        each = Layout.packed(sizes[order], costs[0], ROW_MULTIPLE)
        patch_Q = each.sequence_of().numpy()
        within = np.minimum(each.positions_R.numpy(), sizes[order][patch_Q] - 1)
        from_Q = rows[firsts[order][patch_Q] + within]
        row_R = np.zeros(len(ids), dtype=np.int64)
        held = each.real_R.numpy()
        row_R[from_Q[held]] = np.flatnonzero(held)

        counts = np.bincount(text_of[rows[firsts]], minlength=layout.sequences)
        by_size = np.argsort(-counts, kind="stable")
        core = Layout.packed(counts[by_size] + 1, costs[1], ROW_MULTIPLE)
        place = np.empty(len(by_size), dtype=np.int64)
        place[by_size] = np.arange(len(by_size))
        number = np.arange(len(firsts)) - np.repeat(np.cumsum(counts) - counts, counts)  # of a patch in its text
        before = core.first_rows().numpy()[place[text_of[rows[firsts]]]] + number
        patch_C = np.full(len(core.positions_R), len(firsts), dtype=np.int64)
        patch_C[before[order] + 1] = np.arange(len(firsts))
        return PatchLayout(
            layout.rectangles,
            layout.positions_R,
            layout.real_R,
            each,
            core,
            *map(torch.from_numpy, (from_Q, patch_C, before[order], patch_Q, row_R, place)),
        )


def packer(width: int, hidden_size: int, device: str) -> partial[Packed]:
    """`pack` for texts of bytes, with the rectangle costs of patches of that width and of a core of that hidden size."""
    costs = rectangle_cost(width, device), rectangle_cost(hidden_size, device)
    return partial(_pack, costs=costs)


def _pack(sequences: Ragged, items: Rows, vocabulary: Vocabulary, max_length: int, *, costs: tuple[int, int]) -> Packed:
    del vocabulary  # bytes are bytes
    packed = pack(sequences, items, _BYTES, max_length, 0)
    return Packed(packed.ids_R, PatchLayout.of(packed.ids_R, packed.layout, costs), packed.order_B)


_BYTES = Vocabulary((), pad=PAD, cls=PAD, sep=EOP)
"""Of a begin nothing is read."""
