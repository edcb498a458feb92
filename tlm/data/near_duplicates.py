"""Near-duplicates: items of a task that have n-grams in common with a pre-training set.

The check is GPT-3's for contamination (arXiv 2005.14165, appendix C: 13-grams), with tokens in the place of words.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tlm.data.ragged import Ragged, Rows

MULTIPLIER = 0x9E37_79B9_7F4A_7C15
PARAGRAPHS_AT_ONCE = 8_192


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
    hits = np.zeros(len(items), dtype=np.int64)
    for size in np.unique(sizes[sizes > 0]).tolist():
        rows = np.flatnonzero(sizes == size)
        own = items.take(rows)
        starts = _starts(own, size)
        occurs = _occur(corpus, own.ids, starts, size)
        hits[rows] = np.bincount(own.sequence_of[starts[occurs]], minlength=len(rows))
    return hits


def count_ngrams(items: Ragged, n: int = 13) -> Rows:
    """(items,): how many n-grams each has; 1 if it is shorter than n, 0 if empty. Raises ValueError if n < 1."""
    sizes = _sizes(items, n)
    return np.where(sizes > 0, items.lengths - sizes + 1, 0)


def _sizes(items: Ragged, n: int) -> Rows:
    if n < 1:
        raise ValueError(f"n-grams of {n} tokens")
    return np.minimum(items.lengths, n)


def _occur(corpus: Ragged, ids: NDArray[np.uint16], starts: Rows, size: int) -> NDArray[np.bool_]:
    """For each window of `ids`, of `size` tokens from one of `starts`: does a paragraph of the corpus hold it?"""
    windows, which = np.unique(_windows(ids, starts, size), return_inverse=True)
    hashes = np.unique(_hashes(ids, starts, size))
    found = np.zeros(len(windows), dtype=bool)
    for part in _parts(corpus):
        there = _starts(part, size)
        suspects = there[_among(_hashes(part.ids, there, size), hashes)]
        if len(suspects):
            found |= np.isin(windows, _windows(part.ids, suspects, size))
    return found[which]


def _parts(corpus: Ragged) -> Iterator[Ragged]:
    for first in range(0, len(corpus), PARAGRAPHS_AT_ONCE):
        offsets = corpus.offsets[first : first + PARAGRAPHS_AT_ONCE + 1]
        yield Ragged(corpus.ids[offsets[0] : offsets[-1]], offsets - offsets[0])


def _starts(sequences: Ragged, size: int) -> Rows:
    """Where in `ids` a window of `size` tokens begins that stays within its sequence."""
    ends = np.repeat(sequences.offsets[1:], sequences.lengths)
    return np.flatnonzero(np.arange(len(ends)) + size <= ends)


def _hashes(ids: NDArray[np.uint16], starts: Rows, size: int) -> NDArray[np.uint64]:
    """(starts,): a polynomial of each window's ids, modulo 2**64."""
    hashes = np.zeros(max(0, len(ids) - size + 1), dtype=np.uint64)
    for position in range(size):
        hashes *= np.uint64(MULTIPLIER)
        hashes += ids[position : position + len(hashes)]
    return hashes[starts]


def _among(values: NDArray[np.uint64], ordered: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of `values` are in a sorted array. np.isin would sort the values first."""
    places = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return ordered[places] == values


def _windows(ids: NDArray[np.uint16], starts: Rows, size: int) -> NDArray[np.void]:
    """(starts,): each window as one opaque value, to compare and sort by all its bytes."""
    rows = np.lib.stride_tricks.sliding_window_view(ids, size)[starts]
    return np.ascontiguousarray(rows).view(np.dtype((np.void, rows.itemsize * size)))[:, 0]
