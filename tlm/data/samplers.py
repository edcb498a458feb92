"""Orders of a source's paragraphs, the best to pre-train on first: at random, or chosen for a task.

A sampler never learns Ws: it returns every candidate, and the sample is the beginning of what it returns, so samples nest.
Candidates come to it in random order, and that order breaks every tie.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tlm.data.ragged import Ragged, Rows
from tlm.data.tokenizer import MAX_VOCABULARY

Weights = NDArray[np.int64]
"""(MAX_VOCABULARY,): what covering a token type is worth; 0 for what the task never uses."""
BM25_TURNS = 200
"""How many paragraphs each item of a task chooses."""
GONE_SHARE = 0.1
"""Coverage leaves out the rows that it has picked once they are more than this share."""


@dataclass(frozen=True)
class Draw:
    """What a sampler may look at.

    If it chooses for a task, `tokens` and `task` come without special tokens, which are no types that a sample could cover.
    """

    tokens: Ragged
    """The source; row i of it is sequence i."""
    candidates: Rows
    """The rows to order, in random order."""
    generator: np.random.Generator
    task: Ragged | None = None
    """The task's training items; never dev or test, which would leak into what is pre-trained on."""
    level: float | None = None
    """From 0 to 1: the share that a sampler such as `irrelevant` is asked for."""

    @property
    def task_counts(self) -> Weights:
        """(MAX_VOCABULARY,): how often the task uses each type. Raises ValueError if no task is given."""
        if self.task is None:
            raise ValueError("this sampler chooses for a task, and the draw has none")
        return np.bincount(self.task.ids, minlength=MAX_VOCABULARY)


Sampler = Callable[[Draw], Rows]
"""A function from a draw to its candidates, sorted so that the best to pre-train on come first."""


def random_order(draw: Draw) -> Rows:
    """Keep the random order in which candidates come, as the paper does."""
    return draw.candidates


def coverage(draw: Draw) -> Rows:
    """Greedy maximum coverage of the task's types (at least 1 - 1/e of the best there is: Nemhauser et al. 1978).

    Once nothing new can be covered, coverage starts afresh over the remaining paragraphs, and so on; those that hold no
    type of the task come last.
    """
    return _cover_in_rounds(draw, (draw.task_counts > 0).astype(np.int64))


def weighted_coverage(draw: Draw) -> Rows:
    """As `coverage`, where covering a type is worth its occurrences in the task."""
    return _cover_in_rounds(draw, draw.task_counts)


def bm25(draw: Draw) -> Rows:
    """Every training item's best paragraph by BM25 (Lucene's), then every item's second best, …; items in random order.

    So many turns are taken, `BM25_TURNS`; the paragraphs that are left follow by their best score with any item, those that
    match none last. Time grows with items × paragraphs, memory with the larger of the two.
    """
    from bm25s import BM25  # imports accelerators where there are any (jax, numba): only for who asks for it
    from bm25s.tokenization import Tokenized

    logging.getLogger("bm25s").setLevel(logging.WARNING)  # its own default is DEBUG

    assert draw.task is not None
    paragraphs, queries = draw.tokens.take(draw.candidates), draw.task
    index = BM25()
    size = 1 + int(max(paragraphs.ids.max(initial=0), queries.ids.max(initial=0)))
    documents = Tokenized(ids=paragraphs, vocab={token: token for token in range(size)})
    index.index(documents, create_empty_token=False, show_progress=False)
    # When a paragraph is taken: rank × queries + the query's place, of the query that ranks it first.
    turn = np.full(len(paragraphs), BM25_TURNS * len(queries), dtype=np.int64)
    best = np.zeros(len(paragraphs))
    for place, query in enumerate(draw.generator.permutation(len(queries))):
        scores = index.get_scores_from_ids(queries[query])
        best = np.maximum(best, scores)
        ranked = _ranked(scores, BM25_TURNS)
        turn[ranked] = np.minimum(turn[ranked], np.arange(len(ranked)) * len(queries) + place)
    return draw.candidates[np.lexsort((-best, turn))]


def _ranked(scores: NDArray[np.float64], most: int) -> Rows:
    """The places of the highest scores above 0, at most so many, highest first; equal ones in their order."""
    lowest = np.partition(scores, -most)[-most] if most < len(scores) else 0.0
    among = np.flatnonzero((scores >= lowest) & (scores > 0))
    return among[np.argsort(-scores[among], kind="stable")][:most]


def least_overlap(draw: Draw) -> Rows:
    """The smallest share of occurrences whose type the task uses first; empty paragraphs last."""
    return draw.candidates[np.argsort(_relevant_share(draw), kind="stable")]


def irrelevant(draw: Draw) -> Rows:
    """A core that covers every type of the task there is, then paragraphs with a chosen share of irrelevant occurrences.

    The core is greedy coverage's. The others are ordered by how near their share of occurrences of types that the task
    never uses is to the `level`-quantile of those shares, empty ones last. Of samples that hold the core, coverage of the
    task is the same at every level, and what else they hold varies.
    """
    assert draw.level is not None
    weights = (draw.task_counts > 0).astype(np.int64)
    core = _Cover(_types_held(draw, weights), weights).once()
    rest = np.setdiff1d(np.arange(len(draw.candidates)), core)
    share = 1 - _relevant_share(draw)[rest]
    known = share[~np.isnan(share)]
    aim = np.quantile(known, draw.level) if len(known) else 0.0
    ordered = rest[np.argsort(np.abs(share - aim), kind="stable")]
    return draw.candidates[np.concatenate([core, ordered])]


def covering_size(draw: Draw, order: Rows) -> int:
    """How many of the first rows of `order` hold every type of the task that any of them holds."""
    ordered = draw.tokens.take(order)
    types, first = np.unique(ordered.ids, return_index=True)
    needed = first[draw.task_counts[types] > 0]
    return int(ordered.sequence_of[needed].max(initial=-1)) + 1


# --- coverage ---


def _cover_in_rounds(draw: Draw, weights: Weights) -> Rows:
    cover = _Cover(_types_held(draw, weights), weights)
    rounds = []
    while len(picked := cover.once()):
        rounds.append(picked)
    return draw.candidates[np.concatenate([*rounds, cover.left])]


class _Cover:
    """Greedy coverage, again and again, of rows that hold types: what a round picks is no row of the next.

    Gains are kept exact instead of being looked up lazily: when a type is covered, every row that holds it loses its
    weight. So a pair of row and type is touched once a round, and lazy greedy would have to look at each in the end as
    well. To leave out the rows that are gone takes longer than a round, and so it waits until they are many.
    """

    def __init__(self, held: sparse.csr_array, weights: Weights) -> None:
        self._weights = weights
        self._keep(np.arange(held.shape[0]), held)

    @property
    def left(self) -> Rows:
        """The rows that no round has picked, in order."""
        return self._rows[~self._gone]

    def once(self) -> Rows:
        """The rows of a round, greedily until none adds anything; of equal gains the first row."""
        if self._gone.mean() > GONE_SHARE:
            kept = np.flatnonzero(~self._gone)
            self._keep(self._rows[kept], self._held[kept])
        gains = np.where(self._gone, 0, self._worth)
        uncovered = np.ones(self._held.shape[1], dtype=bool)
        picked = []
        while len(gains) and gains[best := int(gains.argmax())] > 0:
            picked.append(best)
            types = self._held.indices[self._held.indptr[best] : self._held.indptr[best + 1]]
            for token in types[uncovered[types]].tolist():
                gains[self._holding(token)] -= self._weights[token]
            uncovered[types] = False
        self._gone[picked] = True
        return self._rows[picked]

    def _keep(self, rows: Rows, held: sparse.csr_array) -> None:
        self._rows, self._held, self._by_type = rows, held, held.tocsc()
        self._worth = held @ self._weights
        self._gone = np.zeros(len(rows), dtype=bool)

    def _holding(self, token: int) -> Rows:
        return self._by_type.indices[self._by_type.indptr[token] : self._by_type.indptr[token + 1]]


def _types_held(draw: Draw, weights: Weights) -> sparse.csr_array:
    """(candidates, MAX_VOCABULARY) of 0 and 1: which candidate holds which type of those that weigh something."""
    paragraphs = draw.tokens.take(draw.candidates)
    wanted = weights[paragraphs.ids] > 0
    pairs = (paragraphs.sequence_of[wanted].astype(np.int32), paragraphs.ids[wanted].astype(np.int32))
    ones = np.ones(len(pairs[0]), dtype=np.int64)
    held = sparse.coo_array((ones, pairs), shape=(len(paragraphs), MAX_VOCABULARY)).tocsr()
    held.data[:] = 1
    return held


# --- what a paragraph is made of ---


def _relevant_share(draw: Draw) -> NDArray[np.float64]:
    """(candidates,): the share of a paragraph's occurrences whose type the task uses; NaN, which sorts last, if empty."""
    paragraphs = draw.tokens.take(draw.candidates)
    used = np.bincount(paragraphs.sequence_of[draw.task_counts[paragraphs.ids] > 0], minlength=len(paragraphs))
    share = np.full(len(paragraphs), np.nan)
    np.divide(used, paragraphs.lengths, out=share, where=paragraphs.lengths > 0)
    return share
