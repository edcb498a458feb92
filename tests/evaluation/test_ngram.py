"""The 5-gram model: a distribution, and the one that its formula says."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tlm.data.ragged import Ragged
from tlm.data.tokenizer import Vocabulary
from tlm.evaluation.ngram import DISCOUNT, fit

SIZE, CLS, SEP = 7, 0, 1
VOCABULARY = Vocabulary(tuple("csabdef"), cls=CLS, sep=SEP)
TEXTS = st.lists(st.lists(st.integers(2, SIZE - 1), max_size=6), min_size=1, max_size=6)


def naive(texts: list[list[int]], order: int, context: tuple[int, ...], word: int) -> float:
    """Interpolated Kneser-Ney, as it stands in the book, with dictionaries."""
    counts: dict[int, Counter[tuple[int, ...]]] = {n: Counter() for n in range(1, order + 1)}
    for text in texts:
        stream = (CLS, *text, SEP)
        for n, seen in counts.items():
            seen.update(stream[i : i + n] for i in range(len(stream) - n + 1))
    for n in range(1, order):
        follows = Counter(gram[1:] for gram in counts[n + 1])
        counts[n] = Counter({gram: c if gram[0] == CLS else follows[gram] for gram, c in counts[n].items()})
    del counts[1][CLS,]

    def p(n: int, context: tuple[int, ...]) -> float:
        if n == 0:
            return 1 / SIZE
        of = {gram: c for gram, c in counts[n].items() if gram[:-1] == context[len(context) - n + 1 :]}
        lower = p(n - 1, context)
        if not of:
            return lower
        once, twice = (sum(c == k for c in counts[n].values()) for k in (1, 2))
        d = once / (once + 2 * twice) if once and twice else DISCOUNT
        own = of.get((*context[len(context) - n + 1 :], word), 0)
        return (max(own - d, 0) + d * len(of) * lower) / sum(of.values())

    return p(min(order, len(context) + 1), context)


@settings(max_examples=30)
@given(TEXTS, st.lists(st.integers(2, SIZE - 1), min_size=1, max_size=6), st.integers(1, 4))
def test_it_is_interpolated_kneser_ney_and_sums_to_one(texts: list[list[int]], text: list[int], order: int) -> None:
    model = fit(Ragged.from_lists(texts), VOCABULARY, order)
    start = len(text) - 1
    every = Ragged.from_lists([*text[:-1], word] for word in range(SIZE))
    found = model.log_likelihoods(every, np.full(SIZE, start))
    wanted = [naive(texts, order, (CLS, *text[:-1]), word) for word in range(SIZE)]
    assert np.exp(found) == pytest.approx(wanted)
    assert np.exp(found).sum() == pytest.approx(1)


def test_a_text_is_the_product_of_its_tokens_and_an_empty_one_is_not_scored() -> None:
    model = fit(Ragged.from_lists([[2, 3, 4, 2, 3], [3, 4]]), VOCABULARY)
    text = [2, 3, 6]
    parts = Ragged.from_lists([text[: i + 1] for i in range(3)])
    by_token = model.log_likelihoods(parts, np.arange(3))
    whole, empty = model.log_likelihoods(Ragged.from_lists([text, []]), np.array([0, 0]))
    assert whole == pytest.approx(by_token.sum()) and math.isfinite(whole) and math.isnan(empty)
