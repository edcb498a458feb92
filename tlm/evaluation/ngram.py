"""An n-gram language model: what counting yields, beside every language model of the same pre-training set.

Interpolated Kneser-Ney smoothing with one discount for each order, estimated as n1 / (n1 + 2 n2) (Kneser and Ney 1995; Chen
and Goodman 1999, https://doi.org/10.1006/csla.1999.0128). Sequences are [CLS] ids [SEP]; [CLS] is never predicted.

Shapes: T tokens of a stream of sequences, G distinct n-grams of one order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tlm.data.ragged import Ragged, Rows
from tlm.data.tokenizer import Vocabulary

Floats = NDArray[np.float64]
DISCOUNT = 0.5
"""Where the counts of a tiny set do not say: no n-gram of it occurs once, or none twice."""


@dataclass(frozen=True)
class _Order:
    """The distinct n-grams of one order, by a number that says what they begin with and their last token."""

    keys_G: Rows
    """(index of the first n - 1 tokens among the n-grams one shorter) * V + last token; ascending."""
    counts_G: Floats
    """Of the highest order, and of n-grams that begin a sequence: occurrences; else how many tokens come before it."""
    totals: Floats
    """For each n-gram one shorter: the sum of the counts of those that begin with it."""
    types: Floats
    """For each n-gram one shorter: how many begin with it."""
    discount: float


@dataclass(frozen=True)
class NGram:
    """`orders[n - 1]` has the n-grams of n tokens."""

    orders: tuple[_Order, ...]
    vocabulary: Vocabulary

    def log_likelihoods(self, texts: Ragged, starts: Rows) -> Floats:
        """Σ log p, in nats, of each text's tokens from its start on, given those before it; [SEP] is not scored.

        NaN for an empty text.
        """
        stream = _Stream.of(texts, self.vocabulary)
        scored = stream.at > np.repeat(starts, texts.lengths + 2)
        scored &= stream.at <= np.repeat(texts.lengths, texts.lengths + 2)
        log_p = np.where(scored, np.log(np.where(scored, self._probabilities(stream), 1.0)), 0.0)
        sums = np.add.reduceat(log_p, stream.firsts) if len(texts) else np.zeros(0)
        return np.where(texts.lengths > 0, sums, np.nan)

    def _probabilities(self, stream: _Stream) -> Floats:
        """(T,): of each token given those before it in its sequence."""
        size = len(self.vocabulary)
        p = np.full(len(stream.ids), 1.0 / size)
        context = np.zeros(len(stream.ids), dtype=np.int64)  # of order 1: the only n-gram of no token
        for n, order in enumerate(self.orders, start=1):
            usable = (context >= 0) & (stream.at >= n - 1)
            usable[usable] = order.totals[context[usable]] > 0
            own = np.full(len(p), -1, dtype=np.int64)
            own[usable] = _find(order.keys_G, context[usable] * size + stream.ids[usable])
            counts = np.where(own >= 0, order.counts_G[own], 0.0)[usable]
            totals, types = order.totals[context[usable]], order.types[context[usable]]
            p[usable] = (np.maximum(counts - order.discount, 0) + order.discount * types * p[usable]) / totals
            context = np.concatenate([[-1], own[:-1]])
        return p


def fit(corpus: Ragged, vocabulary: Vocabulary, order: int = 5) -> NGram:
    """The model of a pre-training set. Raises ValueError if `order` < 1 or the set is empty."""
    if order < 1 or not len(corpus):
        raise ValueError(f"order {order}, {len(corpus)} sequences")
    stream, size = _Stream.of(corpus, vocabulary), len(vocabulary)
    before, contexts = np.zeros(len(stream.ids), dtype=np.int64), 1
    shorter, found = before, list[_Counted]()
    for n in range(1, order + 1):
        there = np.flatnonzero(stream.at >= n - 1)
        if not len(there):  # no text is so long
            break
        keys_G, first_G, own = np.unique(
            before[there] * size + stream.ids[there], return_index=True, return_inverse=True
        )
        last_G = there[first_G]
        if found:  # now it is known how many tokens come before the n-grams one shorter
            found[-1].preceded(np.bincount(shorter[last_G], minlength=len(found[-1].counts_G)))
        counts_G = np.bincount(own).astype(np.float64)
        found.append(_Counted(keys_G, counts_G, stream.at[last_G] == n - 1, contexts))
        shorter, contexts = np.full(len(stream.ids), -1, dtype=np.int64), len(keys_G)
        shorter[there] = own
        before = np.concatenate([[-1], shorter[:-1]])
    found[0].counts_G[found[0].begins_G] = 0  # [CLS]
    return NGram(tuple(each.order(size) for each in found), vocabulary)


@dataclass
class _Counted:
    keys_G: Rows
    counts_G: Floats
    begins_G: NDArray[np.bool_]
    """Whether it stands at the beginning of a sequence, where nothing comes before it."""
    contexts: int
    """Distinct n-grams one shorter."""

    def preceded(self, tokens_G: Rows) -> None:
        self.counts_G = np.where(self.begins_G, self.counts_G, tokens_G)

    def order(self, size: int) -> _Order:
        context_G, seen_G = self.keys_G // size, self.counts_G > 0
        once, twice = (self.counts_G == 1).sum(), (self.counts_G == 2).sum()
        return _Order(
            keys_G=self.keys_G,
            counts_G=self.counts_G,
            totals=np.bincount(context_G, self.counts_G, self.contexts).astype(np.float64),
            types=np.bincount(context_G, seen_G, self.contexts).astype(np.float64),
            discount=float(once / (once + 2 * twice)) if once and twice else DISCOUNT,
        )


@dataclass(frozen=True)
class _Stream:
    """Sequences one after another, each as [CLS] ids [SEP]; `at` counts the tokens of each from 0."""

    ids: Rows
    at: Rows
    firsts: Rows
    """Where each begins."""

    @staticmethod
    def of(texts: Ragged, vocabulary: Vocabulary) -> _Stream:
        lengths = texts.lengths + 2
        ends = lengths.cumsum()
        firsts = ends - lengths
        ids = np.empty(int(lengths.sum()), dtype=np.int64)
        ids[firsts], ids[ends - 1] = vocabulary.begin, vocabulary.sep
        at = np.arange(len(ids)) - np.repeat(firsts, lengths)
        ids[(at > 0) & (at < np.repeat(lengths, lengths) - 1)] = texts.ids
        return _Stream(ids, at, firsts)


def _find(keys_G: Rows, wanted: Rows) -> Rows:
    """Where each is in an ascending array; -1 for one that is not."""
    places = np.minimum(np.searchsorted(keys_G, wanted), len(keys_G) - 1)
    return np.where(keys_G[places] == wanted, places, -1)
