"""Overlap: what every pair of corpus and task obeys, and the same numbers by brute force."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from helpers import numbered_vocabulary
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tlm.data.overlap import count_tokens, measure_overlap, token_table
from tlm.data.ragged import Ragged
from tlm.errors import UserError

SIZE = 12
COUNTS = arrays(np.int64, SIZE, elements=st.integers(0, 9)).filter(lambda counts: counts.sum() > 0)
VOCABULARY = numbered_vocabulary(SIZE)
SEQUENCES = st.lists(st.lists(st.integers(0, SIZE - 1), max_size=8), min_size=1, max_size=6)


@given(COUNTS, COUNTS)
def test_types_add_up(corpus: np.ndarray, task: np.ndarray) -> None:
    found = measure_overlap(corpus, task)
    assert found.common_types + found.missing_from_corpus == found.task_types
    assert found.common_types + found.missing_from_task == found.corpus_types


@given(COUNTS, COUNTS)
def test_every_measure_keeps_to_its_bounds(corpus: np.ndarray, task: np.ndarray) -> None:
    found = measure_overlap(corpus, task)
    for share in (found.type_overlap, found.occurrence_overlap, found.jaccard, found.weighted_jaccard):
        assert 0 <= share <= 1
    assert -1e-12 <= found.js_divergence <= 1 + 1e-12
    assert -1e-12 <= found.kl_divergence < math.inf
    assert found.jaccard <= found.type_overlap


@given(COUNTS, COUNTS)
def test_jensen_shannon_and_jaccard_are_symmetric(one: np.ndarray, other: np.ndarray) -> None:
    there, back = measure_overlap(one, other), measure_overlap(other, one)
    assert there.js_divergence == pytest.approx(back.js_divergence, abs=1e-12)
    assert there.jaccard == back.jaccard
    assert there.weighted_jaccard == pytest.approx(back.weighted_jaccard)


@given(COUNTS, st.integers(1, 5))
def test_the_same_distribution_overlaps_wholly(counts: np.ndarray, times: int) -> None:
    found = measure_overlap(counts * times, counts)
    assert found.type_overlap == found.occurrence_overlap == found.jaccard == 1
    assert found.weighted_jaccard == pytest.approx(1)
    assert found.js_divergence == pytest.approx(0, abs=1e-12)


@given(COUNTS, COUNTS, st.integers(0, SIZE - 1))
def test_more_tokens_in_the_corpus_never_lower_the_overlap(corpus: np.ndarray, task: np.ndarray, token: int) -> None:
    more = corpus.copy()
    more[token] += 1
    before, after = measure_overlap(corpus, task), measure_overlap(more, task)
    assert after.type_overlap >= before.type_overlap
    assert after.occurrence_overlap >= before.occurrence_overlap


def test_nothing_in_common() -> None:
    found = measure_overlap(np.array([3, 0, 1]), np.array([0, 2, 0]))
    assert (found.common_types, found.missing_from_corpus, found.missing_from_task) == (0, 1, 2)
    assert found.type_overlap == found.occurrence_overlap == found.jaccard == found.weighted_jaccard == 0
    assert found.js_divergence == pytest.approx(1)


@given(COUNTS, COUNTS)
def test_measures_are_those_of_a_plain_computation(corpus: np.ndarray, task: np.ndarray) -> None:
    q = {i: int(n) for i, n in enumerate(corpus) if n}
    p = {i: int(n) for i, n in enumerate(task) if n}
    common, either = set(p) & set(q), set(p) | set(q)
    total_p, total_q = sum(p.values()), sum(q.values())
    share_p = {i: p.get(i, 0) / total_p for i in either}
    share_q = {i: q.get(i, 0) / total_q for i in either}
    smooth = {i: (q.get(i, 0) + 1) / (total_q + len(either)) for i in either}

    def divergence(a: dict[int, float], b: dict[int, float]) -> float:
        return sum(a[i] * math.log2(a[i] / b[i]) for i in either if a[i])

    middle = {i: (share_p[i] + share_q[i]) / 2 for i in either}
    found = measure_overlap(corpus, task)
    assert found.type_overlap == pytest.approx(len(common) / len(p))
    assert found.occurrence_overlap == pytest.approx(sum(p[i] for i in common) / total_p)
    assert found.jaccard == pytest.approx(len(common) / len(either))
    lower = sum(min(share_p[i], share_q[i]) for i in either)
    assert found.weighted_jaccard == pytest.approx(lower / sum(max(share_p[i], share_q[i]) for i in either))
    jensen_shannon = (divergence(share_p, middle) + divergence(share_q, middle)) / 2
    assert found.js_divergence == pytest.approx(jensen_shannon, abs=1e-12)
    assert found.kl_divergence == pytest.approx(divergence(share_p, smooth), abs=1e-12)


@given(SEQUENCES)
def test_counts_are_those_of_a_plain_count_without_special_tokens(sequences: list[list[int]]) -> None:
    counts = count_tokens(Ragged.from_lists(sequences), VOCABULARY)
    occurrences = Counter(i for s in sequences for i in s if i not in VOCABULARY.special_ids)
    documents = Counter(i for s in sequences for i in set(s) if i not in VOCABULARY.special_ids)
    assert counts.occurrences.tolist() == [occurrences[i] for i in range(SIZE)]
    assert counts.documents.tolist() == [documents[i] for i in range(SIZE)]


def test_the_largest_token_id_is_counted() -> None:
    vocabulary = numbered_vocabulary(65_536)
    counts = count_tokens(Ragged.from_lists([[65_535, 65_535], [65_535, 5]]), vocabulary)
    assert (counts.occurrences[65_535], counts.documents[65_535], counts.documents[5]) == (3, 2, 1)


def test_the_token_table_has_a_row_for_each_token_of_either_side() -> None:
    corpus = count_tokens(Ragged.from_lists([[5, 5, 6], [5, 0, 1]]), VOCABULARY)
    task = count_tokens(Ragged.from_lists([[6, 7]]), VOCABULARY)
    table = token_table(VOCABULARY, corpus, task)
    assert table.to_dict("list") == {
        "token_id": [5, 6, 7],
        "token": ["t0", "t1", "t2"],
        "corpus_count": [3, 1, 0],
        "corpus_documents": [2, 1, 0],
        "task_count": [0, 1, 1],
        "task_documents": [0, 1, 1],
    }


def test_an_empty_side_or_another_vocabulary_is_an_error() -> None:
    with pytest.raises(UserError, match="empty corpus or task"):
        measure_overlap(np.zeros(3, dtype=np.int64), np.ones(3, dtype=np.int64))
    with pytest.raises(ValueError, match="different vocabularies"):
        measure_overlap(np.ones(3, dtype=np.int64), np.ones(4, dtype=np.int64))
