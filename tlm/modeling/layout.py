"""How the sequences of a batch lie in memory: a few rectangles, one after another, in one flat list of rows.

A batch of sequences of very different length holds much padding as one rectangle (B, T), and none if every sequence is
a rectangle of its own, at the price of more and smaller operations. `packed` chooses in between.

Shapes: B sequences, T positions, R rows of the batch (one for each token, and for what padding is left), N selected
rows, Q queries of each sequence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Rectangle:
    """`sequences` of `length` rows each; `masked` if some of these rows are padding.

    `both_ways`: attention that is causal elsewhere sees the whole of these sequences.
    """

    sequences: int
    length: int
    masked: bool
    both_ways: bool = False

    @property
    def rows(self) -> int:
        return self.sequences * self.length


@dataclass(frozen=True)
class Layout:
    """Rectangles, and for each row its position in its sequence and whether it holds a token.

    Rows past the last rectangle belong to no sequence: they only round R up, so that fewer shapes occur.
    """

    rectangles: tuple[Rectangle, ...]
    positions_R: Tensor
    real_R: Tensor

    @property
    def sequences(self) -> int:
        return sum(rectangle.sequences for rectangle in self.rectangles)

    @property
    def longest(self) -> int:
        return max((rectangle.length for rectangle in self.rectangles), default=0)

    @property
    def filler(self) -> int:
        """Rows past the last rectangle."""
        return len(self.positions_R) - sum(rectangle.rows for rectangle in self.rectangles)

    def to(self, device: str | torch.device) -> Layout:
        return Layout(
            self.rectangles,
            self.positions_R.to(device, non_blocking=True),
            self.real_R.to(device, non_blocking=True),
        )

    def seen_both_ways(self, which_B: NDArray[np.bool_]) -> Layout:
        """The same rows, with causal attention that sees the whole of those sequences. A run of them that begins or ends
        within a rectangle cuts it in two.
        """
        cut, start = [], 0
        for rectangle in self.rectangles:
            end = start + rectangle.sequences
            runs = groupby(which_B[start:end].tolist())
            cut += [replace(rectangle, sequences=len(list(run)), both_ways=both_ways) for both_ways, run in runs]
            start = end
        return replace(self, rectangles=tuple(cut))

    def only(self, which_R: Tensor) -> tuple[Tensor, Layout]:
        """Of each sequence those rows that are True, in their order: which rows they are, (M,), and how they lie.

        What is left of a rectangle is as long as the most that one of its sequences has; its padding is any row, and real
        nowhere. Rows past the last rectangle, and rectangles of which nothing is left, are gone.
        """
        rectangles, rows, real, start = [], [], [], 0
        for rectangle in self.rectangles:
            which_BT = which_R[start : start + rectangle.rows].view(rectangle.sequences, rectangle.length)
            counts_B1 = which_BT.sum(dim=1, keepdim=True)
            if length := int(counts_B1.max()):
                first_B1 = start + rectangle.length * torch.arange(rectangle.sequences, device=which_R.device)[:, None]
                order_BT = which_BT.logical_not().to(torch.uint8).argsort(dim=1, stable=True)[:, :length]
                rows.append((first_B1 + order_BT).flatten())
                real.append((torch.arange(length, device=which_R.device) < counts_B1).flatten())
                rectangles.append(replace(rectangle, length=length, masked=bool((counts_B1 < length).any())))
            start += rectangle.rows
        none = torch.zeros(0, dtype=torch.int64, device=which_R.device)
        rows_M, real_M = torch.cat([none, *rows]), torch.cat([none.bool(), *real])
        return rows_M, Layout(tuple(rectangles), self.positions_R[rows_M], real_M)

    def sequence_of(self) -> Tensor:
        """For each row the sequence it belongs to; rows past the last rectangle count to the last. int64, on CPU."""
        parts = [torch.arange(self.sequences).repeat_interleave(self._rows_of_each())]
        return torch.cat([*parts, parts[0][-1:].expand(self.filler)])

    def first_rows(self) -> Tensor:
        """The row of each sequence's position 0. int64 (B,), on CPU."""
        lengths_B = self._rows_of_each()
        return lengths_B.cumsum(0) - lengths_B

    def last_rows(self) -> Tensor:
        """The row of each sequence's last token, of its position 0 if it has none. int64 (B,), where the layout is."""
        device = self.real_R.device
        tokens_B = torch.zeros(self.sequences, dtype=torch.int64, device=device)
        tokens_B.index_add_(0, self.sequence_of().to(device), self.real_R.long())
        return self.first_rows().to(device) + (tokens_B - 1).clamp_(min=0)

    def require(self, positions: int) -> None:
        """ValueError if a sequence has more positions than a model knows."""
        if self.longest > positions:
            raise ValueError(f"{self.longest} positions, but the model has {positions} (max_position_embeddings)")

    def _rows_of_each(self) -> Tensor:
        lengths = torch.tensor([rectangle.length for rectangle in self.rectangles])
        return lengths.repeat_interleave(torch.tensor([rectangle.sequences for rectangle in self.rectangles]))

    @staticmethod
    def padded(mask_BT: Tensor, *, masked: bool = True) -> Layout:
        """One rectangle, from an attention mask that is True at tokens. `masked=False` promises that all are."""
        count, length = mask_BT.shape
        positions_BT = torch.arange(length, device=mask_BT.device).expand(count, length)
        return Layout((Rectangle(count, length, masked),), positions_BT.flatten(), mask_BT.flatten())

    @staticmethod
    def packed(
        lengths_B: NDArray[np.int64],
        rectangle_cost: int,
        multiple: int = 1,
    ) -> Layout:
        """Rectangles for sequences sorted by length, longest first, that cost the least.

        Args:
            lengths_B: rows of each sequence, at least 1, descending.
            rectangle_cost: how many rows of computation one more rectangle is worth.
            multiple: R is rounded up to a multiple of it.

        Raises ValueError if the lengths do not descend to 1 at least.
        """
        if len(lengths_B) == 0 or (np.diff(lengths_B) > 0).any() or lengths_B[-1] < 1:
            raise ValueError(f"lengths must descend and be 1 or more, got {lengths_B.tolist()}")
        rectangles, positions, real = [], [], []
        for start, end in pairwise(_cheapest_cuts(lengths_B, rectangle_cost)):
            lengths, length = lengths_B[start:end], int(lengths_B[start])
            rectangles.append(Rectangle(end - start, length, bool(lengths[-1] < length)))
            column = np.arange(length)
            positions.append(np.tile(column, end - start))
            real.append((column < lengths[:, None]).ravel())
        filler = np.zeros(-sum(map(len, positions)) % multiple, dtype=np.int64)
        return Layout(
            tuple(rectangles),
            torch.from_numpy(np.concatenate([*positions, filler])),
            torch.from_numpy(np.concatenate([*real, filler.astype(bool)])),
        )


def _cheapest_cuts(lengths_B: NDArray[np.int64], rectangle_cost: int) -> list[int]:
    """Where rectangles begin and end: 0 … B. Dynamic programming over the last cut, O(B²) in numpy."""
    size = len(lengths_B)
    # Only a change of length is worth a cut, which leaves few places in a batch of truncated paragraphs.
    places = np.concatenate([[0], np.flatnonzero(np.diff(lengths_B)) + 1, [size]])
    best = np.zeros(len(places), dtype=np.int64)
    came_from = np.zeros(len(places), dtype=np.int64)
    for i in range(1, len(places)):
        costs = best[:i] + (places[i] - places[:i]) * lengths_B[places[:i]] + rectangle_cost
        came_from[i] = costs.argmin()
        best[i] = costs[came_from[i]]
    cuts, i = [size], len(places) - 1
    while i:
        i = int(came_from[i])
        cuts.append(int(places[i]))
    return cuts[::-1]


@dataclass(frozen=True)
class Queries:
    """Rows whose output is wanted, and the same as a rectangle (B, Q) for attention, where a sequence has fewer than Q."""

    rows_N: Tensor
    slots_S: Tensor
    """For each of the S = B·Q slots, which of the N rows it holds (an arbitrary one where it holds none)."""
    kept_N: Tensor
    """For each of the N rows, its slot."""
    each: int
    """Q, the most rows of one sequence."""

    def to(self, device: str | torch.device) -> Queries:
        rows_N, slots_S, kept_N = (
            tensor.to(device, non_blocking=True) for tensor in (self.rows_N, self.slots_S, self.kept_N)
        )
        return Queries(rows_N, slots_S, kept_N, self.each)

    @staticmethod
    def of(layout: Layout, rows_N: Tensor) -> Queries:
        """Queries for `rows_N` of the layout, ascending, each belonging to a sequence."""
        sequence_N = layout.sequence_of().to(rows_N.device)[rows_N]
        counts_B = torch.bincount(sequence_N, minlength=layout.sequences)
        each = max(int(counts_B.max()), 1)
        first_B = counts_B.cumsum(0) - counts_B
        order_N = torch.arange(len(rows_N), device=rows_N.device)
        kept_N = sequence_N * each + order_N - first_B[sequence_N]
        slots_S = torch.zeros(layout.sequences * each, dtype=torch.int64, device=rows_N.device)
        slots_S[kept_N] = order_N
        return Queries(rows_N, slots_S, kept_N, each)

    @staticmethod
    def first(layout: Layout) -> Queries:
        """Position 0 of every sequence."""
        everyone_B = torch.arange(layout.sequences)
        return Queries(layout.first_rows(), everyone_B, everyone_B, 1).to(layout.positions_R.device)
