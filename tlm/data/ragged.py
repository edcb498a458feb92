"""Token sequences of different lengths as two flat arrays: `ids` (uint16) and `offsets` (int64).

Ws = 90,000 paragraphs of 126 tokens are 22 MB, memory-mapped: no Python object for each item anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.uint16]
Rows = NDArray[np.int64]
SEQUENCES_AT_ONCE = 8_192
"""Of more than memory may hold."""


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

    def parts(self, rows: Rows | None = None, at_once: int = SEQUENCES_AT_ONCE) -> Iterator[Ragged]:
        """The sequences at `rows` (default: all) in that order, some at a time, so that memory holds one part."""
        for first in range(0, len(self) if rows is None else len(rows), at_once):
            if rows is not None:
                yield self.take(rows[first : first + at_once])
                continue
            offsets = self.offsets[first : first + at_once + 1]
            yield Ragged(self.ids[offsets[0] : offsets[-1]], offsets - offsets[0])

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
        with saving(folder, name) as write:
            write(self)

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


@contextmanager
def saving(folder: Path, name: str) -> Iterator[Callable[[Ragged], Rows]]:
    """Write what `Ragged.save` writes part by part: the function that is given appends one, and returns its lengths."""
    ids, sequences = 0, 0
    with open(folder / f"{name}.ids.npy", "wb") as of_ids, open(folder / f"{name}.offsets.npy", "wb") as of_offsets:
        _write_header(of_ids, np.uint16, 0)
        _write_header(of_offsets, np.int64, 1)
        of_offsets.write(np.zeros(1, dtype=np.int64).data)

        def write(part: Ragged) -> Rows:
            nonlocal ids, sequences
            lengths = part.lengths
            of_ids.write(np.ascontiguousarray(part.ids, dtype=np.uint16).data)
            of_offsets.write((ids + np.cumsum(lengths, dtype=np.int64)).data)
            ids, sequences = ids + len(part.ids), sequences + len(part)
            return lengths

        yield write
        for file, dtype, length in ((of_ids, np.uint16, ids), (of_offsets, np.int64, sequences + 1)):
            file.seek(0)
            _write_header(file, dtype, length)


def _write_header(file: BinaryIO, dtype: type, length: int) -> None:
    """As np.save does, which leaves room for any length."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(file, header)


def concatenate(parts: Iterable[Ragged]) -> Ragged:
    """All sequences of the parts, in their order."""
    parts = list(parts)
    lengths = np.concatenate([p.lengths for p in parts])
    return Ragged(np.concatenate([p.ids for p in parts]), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
