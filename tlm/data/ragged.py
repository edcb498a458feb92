"""Token sequences of different lengths as two flat arrays: `ids` (uint16) and `offsets` (int64).

Ws = 90,000 paragraphs of 126 tokens are 22 MB, memory-mapped: no Python object for each item anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.uint16]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Ragged:
    """Sequence i is `ids[offsets[i]:offsets[i + 1]]`; no [CLS], [SEP] or [PAD] is stored."""

    ids: Ids
    offsets: Rows

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Ids:
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> Rows:
        return np.diff(self.offsets)

    @property
    def sequence_of(self) -> Rows:
        """For each id, the index of the sequence that holds it."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    def take(self, rows: Rows) -> Ragged:
        """The sequences at `rows`, in that order, copied together."""
        rows = np.asarray(rows, dtype=np.int64)
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        positions = np.arange(offsets[-1], dtype=np.int64) + np.repeat(self.offsets[rows] - offsets[:-1], lengths)
        return Ragged(self.ids[positions], offsets)

    def keep(self, mask: NDArray[np.bool_]) -> Ragged:
        """Only the ids where `mask` (one entry for each id) is true; sequences may become empty."""
        kept = np.concatenate([[0], np.cumsum(mask)]).astype(np.int64)
        return Ragged(self.ids[mask], kept[self.offsets])

    def cut(self, length: int) -> Ragged:
        """The first `length` ids of each sequence."""
        place = np.arange(len(self.ids)) - np.repeat(self.offsets[:-1], self.lengths)
        return self.keep(place < length)

    def joined(self, separator: int, length: int, *, after: int | None = None) -> Ragged:
        """All sequences one after another, `separator` between them, cut into sequences of `length` ids.

        Nothing is left out: the last one may be shorter, and an empty sequence has no separator of its own. With `after`,
        each is as much shorter as it takes to end after that id, and not before it, if it has such a place.
        """
        lengths = self.lengths[self.lengths > 0]
        total = int(lengths.sum()) + max(0, len(lengths) - 1)
        ids = np.full(total, separator, dtype=np.uint16)
        ids[np.arange(len(self.ids)) + np.repeat(np.arange(len(lengths)), lengths)] = self.ids
        if after is None:
            return Ragged(ids, np.append(np.arange(0, total, length), total).astype(np.int64))
        places = np.append(0, np.flatnonzero((ids[:-1] == after) & (ids[1:] != after)) + 1)
        offsets = [0]
        while total - offsets[-1] > length:
            most = offsets[-1] + length
            last = int(places[np.searchsorted(places, most, side="right") - 1])
            offsets.append(last if last > offsets[-1] else most)
        return Ragged(ids, np.array([*offsets, total] if total else [0], dtype=np.int64))

    def save(self, folder: Path, name: str) -> None:
        """Write `<name>.ids.npy` and `<name>.offsets.npy`."""
        np.save(folder / f"{name}.ids.npy", self.ids)
        np.save(folder / f"{name}.offsets.npy", self.offsets)

    @staticmethod
    def from_lists(sequences: Iterable[Iterable[int]]) -> Ragged:
        """From one iterable of token ids for each sequence. Raises OverflowError for an id that uint16 cannot hold."""
        arrays = [np.asarray(list(s), dtype=np.uint16) for s in sequences]
        lengths = [len(a) for a in arrays]
        ids = np.concatenate(arrays) if arrays else np.empty(0, dtype=np.uint16)
        return Ragged(ids.astype(np.uint16), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    @staticmethod
    def load(ids: Path, offsets: Path) -> Ragged:
        """Memory-map a saved pair of arrays (never unpickles)."""
        return Ragged(
            np.load(ids, mmap_mode="r", allow_pickle=False), np.load(offsets, mmap_mode="r", allow_pickle=False)
        )


def concatenate(parts: Iterable[Ragged]) -> Ragged:
    """All sequences of the parts, in their order."""
    parts = list(parts)
    lengths = np.concatenate([p.lengths for p in parts])
    return Ragged(np.concatenate([p.ids for p in parts]), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
