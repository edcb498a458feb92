"""Near-duplicates: items of a task that have n-grams in common with a pre-training set.

The check is GPT-3's for contamination (arXiv 2005.14165, appendix C: 13-grams), with tokens in the place of words.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tlm.data.ragged import Ragged, Rows

MULTIPLIER = 0x9E37_79B9_7F4A_7C15
PARAGRAPHS_AT_ONCE = 8_192
BITS = 20
"""Of a hash, by which most windows of a corpus are told from those that are looked for."""


def find_near_duplicates(corpus: Ragged, items: Ragged, n: int = 13) -> Rows:
    """How many of each item's n-grams of tokens occur within a paragraph of the corpus.

    Exact: hashes only choose which n-grams of the corpus are compared. An item shorter than n tokens is compared whole, as
    its one n-gram; so an item of one common token is always found. Memory depends on the items, not on the corpus.

    Returns:
        (items,): of `count_ngrams(items, n)` n-grams, those that occur; one that an item repeats counts each time.

    Raises:
        ValueError: if n < 1.
    """
    sizes = _sizes(items, n)
    groups = [_Group(np.flatnonzero(sizes == size), items, size) for size in np.unique(sizes[sizes > 0]).tolist()]
    for part in corpus.parts(at_once=PARAGRAPHS_AT_ONCE):
        hashes = _Hashes(part.ids)
        for group in groups:
            group.look_in(part, hashes)
    hits = np.zeros(len(items), dtype=np.int64)
    for group in groups:
        hits[group.rows] = group.hits
    return hits


def count_ngrams(items: Ragged, n: int = 13) -> Rows:
    """(items,): how many n-grams each has; 1 if it is shorter than n, 0 if empty. Raises ValueError if n < 1."""
    sizes = _sizes(items, n)
    return np.where(sizes > 0, items.lengths - sizes + 1, 0)


def _sizes(items: Ragged, n: int) -> Rows:
    if n < 1:
        raise ValueError(f"n-grams of {n} tokens")
    return np.minimum(items.lengths, n)


class _Group:
    """The items whose n-grams have `size` tokens, and which of these n-grams were found so far."""

    def __init__(self, rows: Rows, items: Ragged, size: int) -> None:
        self.rows, self.size = rows, size
        own = items.take(rows)
        starts = _starts(own, size)
        self._item = own.sequence_of[starts]
        self._hashes = np.unique(_Hashes(own.ids).of(starts, size))
        self._beginnings = np.zeros(1 << BITS, dtype=bool)
        self._beginnings[self._hashes >> np.uint64(64 - BITS)] = True
        self._windows, self._which = np.unique(_windows(own.ids, starts, size), return_inverse=True)
        self._found = np.zeros(len(self._windows), dtype=bool)

    def look_in(self, part: Ragged, hashes: _Hashes) -> None:
        starts = _starts(part, self.size)
        found = hashes.of(starts, self.size)
        likely = np.flatnonzero(self._beginnings[found >> np.uint64(64 - BITS)])  # far quicker than to search for each
        suspects = starts[likely[_among(found[likely], self._hashes)]]
        if len(suspects):
            self._found |= np.isin(self._windows, _windows(part.ids, suspects, self.size))

    @property
    def hits(self) -> Rows:
        """(rows,): how many of each item's n-grams were found."""
        return np.bincount(self._item[self._found[self._which]], minlength=len(self.rows))


def _starts(sequences: Ragged, size: int) -> Rows:
    """Where in `ids` a window of `size` tokens begins that stays within its sequence."""
    ends = np.repeat(sequences.offsets[1:], sequences.lengths)
    return np.flatnonzero(np.arange(len(ends)) + size <= ends)


class _Hashes:
    """A polynomial of the ids of any window, modulo 2**64: sums from the first id on, and so of any size at one price."""

    def __init__(self, ids: NDArray[np.uint16]) -> None:
        length = len(ids)
        inverse = np.full(length, pow(MULTIPLIER, -1, 2**64), dtype=np.uint64).cumprod(dtype=np.uint64)
        self._powers = np.ones(length + 1, dtype=np.uint64)
        self._powers[1:] = np.full(length, MULTIPLIER, dtype=np.uint64).cumprod(dtype=np.uint64)
        self._sums = np.zeros(length + 1, dtype=np.uint64)
        np.cumsum(ids * inverse, dtype=np.uint64, out=self._sums[1:])

    def of(self, starts: Rows, size: int) -> NDArray[np.uint64]:
        """(starts,): of the windows of `size` ids that begin there; equal ones have equal hashes, wherever they are."""
        all_of_them = (self._sums[size:] - self._sums[:-size]) * self._powers[size:]
        return np.asarray(all_of_them[starts])


def _among(values: NDArray[np.uint64], ordered: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of `values` are in a sorted array. np.isin would sort the values first."""
    places = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return ordered[places] == values


def _windows(ids: NDArray[np.uint16], starts: Rows, size: int) -> NDArray[np.void]:
    """(starts,): each window as one opaque value, to compare and sort by all its bytes."""
    rows = np.lib.stride_tricks.sliding_window_view(ids, size)[starts]
    return np.ascontiguousarray(rows).view(np.dtype((np.void, rows.itemsize * size)))[:, 0]
