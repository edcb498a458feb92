"""n-grams in common, by hashes, are those that a comparison of every n-gram with every other finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlm.data import near_duplicates
from tlm.data.near_duplicates import count_ngrams, find_near_duplicates
from tlm.data.ragged import Ragged

FEW_TOKENS = st.lists(st.lists(st.integers(5, 7), max_size=9), max_size=5)
"""So few that n-grams often occur by chance."""
SIZES = st.integers(1, 4)


def ngrams(sequence: list[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(sequence[i : i + n]) for i in range(len(sequence) - n + 1)]


def naive(corpus: list[list[int]], items: list[list[int]], n: int) -> list[int]:
    found = []
    for item in items:
        size = min(n, len(item))
        there = {gram for paragraph in corpus for gram in ngrams(paragraph, size)} if size else set()
        found.append(sum(gram in there for gram in ngrams(item, size)) if size else 0)
    return found


@given(FEW_TOKENS, FEW_TOKENS, SIZES)
def test_hits_are_those_of_a_plain_comparison(corpus: list[list[int]], items: list[list[int]], n: int) -> None:
    found = find_near_duplicates(Ragged.from_lists(corpus), Ragged.from_lists(items), n)
    assert found.tolist() == naive(corpus, items, n)


@pytest.mark.parametrize("multiplier", [1, 2**64 - 1])
@given(FEW_TOKENS, FEW_TOKENS, SIZES)
def test_colliding_hashes_change_nothing(
    multiplier: int, corpus: list[list[int]], items: list[list[int]], n: int
) -> None:
    """1 hashes an n-gram to the sum of its tokens, the largest to their alternating sum."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_duplicates, "MULTIPLIER", multiplier)
        found = find_near_duplicates(Ragged.from_lists(corpus), Ragged.from_lists(items), n)
    assert found.tolist() == naive(corpus, items, n)


@given(FEW_TOKENS, FEW_TOKENS, SIZES)
def test_a_corpus_in_parts_is_searched_as_a_whole(corpus: list[list[int]], items: list[list[int]], n: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_duplicates, "PARAGRAPHS_AT_ONCE", 2)
        found = find_near_duplicates(Ragged.from_lists(corpus), Ragged.from_lists(items), n)
    assert found.tolist() == naive(corpus, items, n)


@given(FEW_TOKENS, SIZES)
def test_a_corpus_holds_every_ngram_of_its_own_paragraphs(corpus: list[list[int]], n: int) -> None:
    own = Ragged.from_lists(corpus)
    assert find_near_duplicates(own, own, n).tolist() == count_ngrams(own, n).tolist()
    assert count_ngrams(own, n).tolist() == [max(1, len(p) - n + 1) if p else 0 for p in corpus]


def test_thirteen_tokens_in_a_row_are_found_and_twelve_are_not() -> None:
    item = list(range(100, 120))
    corpus = Ragged.from_lists([[9, *item[:12], 9], [9, *item[3:16], 9]])
    assert find_near_duplicates(corpus, Ragged.from_lists([item, item[3:15], [*item[:11], 9]])).tolist() == [1, 1, 0]


def test_an_ngram_over_the_end_of_a_paragraph_is_none() -> None:
    corpus = Ragged.from_lists([[5, 6], [7, 8]])
    assert find_near_duplicates(corpus, Ragged.from_lists([[6, 7], [5, 6], [5, 6, 7, 8]]), n=2).tolist() == [0, 1, 2]


def test_token_ids_that_differ_in_one_byte_are_told_apart() -> None:
    corpus = Ragged.from_lists([[0x0102, 0x0304]])
    items = Ragged.from_lists([[0x0102, 0x0304], [0x0102, 0x0300], [0x0002, 0x0304], [0x0304, 0x0102]])
    assert find_near_duplicates(corpus, items, n=2).tolist() == [1, 0, 0, 0]


def test_ngrams_of_no_tokens_are_refused() -> None:
    nothing = Ragged(np.empty(0, dtype=np.uint16), np.zeros(1, dtype=np.int64))
    with pytest.raises(ValueError, match="n-grams of 0 tokens"):
        find_near_duplicates(nothing, nothing, n=0)
