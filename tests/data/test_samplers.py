"""Samplers: every order is total, and each is what a plain computation of its promise says."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tlm.data import samplers
from tlm.data.ragged import Ragged
from tlm.data.samplers import Draw

PARAGRAPH = st.lists(st.integers(5, 14), max_size=6)
PARAGRAPHS = st.lists(PARAGRAPH, min_size=1, max_size=9)
TASK = st.lists(st.lists(st.integers(5, 12), max_size=6), min_size=1, max_size=4).filter(any)


def make(
    paragraphs: Sequence[Sequence[int]], task: Sequence[Sequence[int]], level: float | None = None, seed: int = 0
) -> Draw:
    """A draw over all paragraphs, its candidates in an order of their own."""
    generator = np.random.default_rng(seed)
    candidates = generator.permutation(len(paragraphs)).astype(np.int64)
    return Draw(Ragged.from_lists(paragraphs), candidates, generator, Ragged.from_lists(task), level)


def greedy(paragraphs: Sequence[Sequence[int]], candidates: Sequence[int], weights: Counter[int]) -> list[int]:
    """Greedy coverage in rounds, by looking at everything at every turn; the first of equals."""
    left, order, covered = list(candidates), [], set[int]()
    while left:
        gains = [sum(weights[t] for t in set(paragraphs[row]) - covered) for row in left]
        if not max(gains):
            if not covered:
                return order + left
            covered = set()
            continue
        best = left.pop(gains.index(max(gains)))
        order.append(best)
        covered |= set(paragraphs[best])
    return order


@given(PARAGRAPHS, TASK, st.integers(0, 9))
def test_coverage_is_brute_force_greedy_in_rounds(
    paragraphs: list[list[int]], task: list[list[int]], seed: int
) -> None:
    draw = make(paragraphs, task, seed=seed)
    types = Counter({t: 1 for item in task for t in item})
    assert samplers.coverage(draw).tolist() == greedy(paragraphs, draw.candidates.tolist(), types)


@given(PARAGRAPHS, TASK, st.integers(0, 9))
def test_weighted_coverage_is_brute_force_greedy_by_occurrences(
    paragraphs: list[list[int]], task: list[list[int]], seed: int
) -> None:
    draw = make(paragraphs, task, seed=seed)
    counts = Counter(t for item in task for t in item)
    assert samplers.weighted_coverage(draw).tolist() == greedy(paragraphs, draw.candidates.tolist(), counts)


@given(PARAGRAPHS, TASK)
@settings(max_examples=50)
def test_coverage_is_within_its_bound_of_the_best_there_is(paragraphs: list[list[int]], task: list[list[int]]) -> None:
    wanted = {t for item in task for t in item}
    held = [wanted & set(paragraph) for paragraph in paragraphs]
    order = samplers.coverage(make(paragraphs, task)).tolist()
    for size in range(1, len(held) + 1):
        best = max(len(set().union(*chosen)) for chosen in combinations(held, size))
        reached = len(set().union(*(held[row] for row in order[:size])))
        assert reached >= (1 - 1 / math.e) * best


def test_coverage_prefers_many_types_and_weighted_coverage_frequent_ones() -> None:
    draw = make([[5], [6, 7]], [[5, 5, 5, 6, 7]])
    assert samplers.coverage(draw).tolist() == [1, 0]
    assert samplers.weighted_coverage(draw).tolist() == [0, 1]


# --- BM25 ---


def okapi(paragraphs: Sequence[Sequence[int]], query: Sequence[int]) -> list[float]:
    """Lucene's BM25 with k1 = 1.5 and b = 0.75, term by term."""
    mean = sum(map(len, paragraphs)) / len(paragraphs)
    scores = []
    for paragraph in paragraphs:
        score = 0.0
        for token in query:
            documents = sum(token in p for p in paragraphs)
            count = paragraph.count(token)
            if count:
                idf = math.log(1 + (len(paragraphs) - documents + 0.5) / (documents + 0.5))
                score += idf * count / (count + 1.5 * (1 - 0.75 + 0.75 * len(paragraph) / mean))
        scores.append(score)
    return scores


@given(PARAGRAPHS.filter(any), st.lists(st.integers(5, 16), min_size=1, max_size=6), st.integers(0, 9))
def test_one_querys_paragraphs_come_by_falling_bm25_and_unmatched_ones_last(
    paragraphs: list[list[int]], query: list[int], seed: int
) -> None:
    draw = make(paragraphs, [query], seed=seed)
    order, scores = samplers.bm25(draw).tolist(), okapi(paragraphs, query)
    found = [scores[row] for row in order]
    assert all(earlier >= later - 1e-5 for earlier, later in zip(found, found[1:]))
    unmatched = [row for row in draw.candidates.tolist() if not scores[row]]
    assert order[len(order) - len(unmatched) :] == unmatched


@given(PARAGRAPHS.filter(any), TASK, st.integers(0, 9))
def test_bm25_deals_every_querys_best_then_every_querys_second_best(
    paragraphs: list[list[int]], task: list[list[int]], seed: int
) -> None:
    draw = make(paragraphs, task, seed=seed)
    rankings = []
    for place in make(paragraphs, task, seed=seed).generator.permutation(len(task)):
        query = task[place]
        alone = samplers.bm25(make(paragraphs, [query], seed=seed)).tolist()
        rankings.append([row for row in alone if set(query) & set(paragraphs[row])])
    dealt = [ranking[rank] for rank in range(len(paragraphs)) for ranking in rankings if rank < len(ranking)]
    expected = list(dict.fromkeys([*dealt, *draw.candidates.tolist()]))
    assert samplers.bm25(draw).tolist() == expected


def test_bm25_prefers_rare_tokens_and_short_paragraphs() -> None:
    paragraphs = [[5, 8], [5, 9], [6, 5], [6, 5, 5, 9, 9, 9]]
    assert samplers.bm25(make(paragraphs, [[6]])).tolist()[:2] == [2, 3]
    assert set(samplers.bm25(make(paragraphs, [[5, 6]])).tolist()[:2]) == {2, 3}


# --- shares ---


def share(paragraph: Sequence[int], task: Sequence[Sequence[int]]) -> float:
    """Of a paragraph's occurrences, those whose type the task uses."""
    used = {t for item in task for t in item}
    return sum(t in used for t in paragraph) / len(paragraph)


@given(PARAGRAPHS, TASK, st.integers(0, 9))
def test_least_overlap_is_by_rising_share_with_empty_paragraphs_last(
    paragraphs: list[list[int]], task: list[list[int]], seed: int
) -> None:
    draw = make(paragraphs, task, seed=seed)
    full = [row for row in draw.candidates.tolist() if paragraphs[row]]
    empty = [row for row in draw.candidates.tolist() if not paragraphs[row]]
    expected = sorted(full, key=lambda row: share(paragraphs[row], task)) + empty
    assert samplers.least_overlap(draw).tolist() == expected


@given(PARAGRAPHS, TASK, st.floats(0, 1), st.integers(0, 9))
def test_the_core_of_irrelevant_covers_all_there_is_and_is_the_same_at_every_level(
    paragraphs: list[list[int]], task: list[list[int]], level: float, seed: int
) -> None:
    draw, other = make(paragraphs, task, level, seed), make(paragraphs, task, 0.0, seed)
    order = samplers.irrelevant(draw)
    core = samplers.covering_size(draw, order)
    wanted = {t for item in task for t in item}
    held = [wanted & set(paragraphs[row]) for row in order.tolist()]
    assert set().union(*held[:core]) == set().union(*held)
    assert order[:core].tolist() == samplers.coverage(draw)[:core].tolist()
    assert order[:core].tolist() == samplers.irrelevant(other)[:core].tolist()


@given(PARAGRAPHS, TASK, st.floats(0, 1), st.integers(0, 9))
def test_beyond_its_core_irrelevant_aims_at_the_levels_quantile(
    paragraphs: list[list[int]], task: list[list[int]], level: float, seed: int
) -> None:
    draw = make(paragraphs, task, level, seed)
    order = samplers.irrelevant(draw).tolist()
    beyond = order[samplers.covering_size(draw, np.array(order)) :]
    irrelevant = [1 - share(paragraphs[row], task) for row in beyond if paragraphs[row]]
    assert all(paragraphs[row] for row in beyond[: len(irrelevant)])  # empty paragraphs are last
    if irrelevant:
        distances = [abs(found - np.quantile(irrelevant, level)) for found in irrelevant]
        assert distances == sorted(distances)


def test_a_higher_level_means_more_irrelevant_occurrences_at_the_same_coverage() -> None:
    generator = np.random.default_rng(0)
    paragraphs = [generator.integers(5, 5 + high, size=20).tolist() for high in generator.integers(10, 100, size=300)]
    task = [list(range(5, 25))]
    found = []
    for level in (0.0, 0.25, 0.5, 0.75, 1.0):
        sample = samplers.irrelevant(make(paragraphs, task, level)).tolist()[:60]
        assert {t for row in sample for t in paragraphs[row]} >= set(task[0])
        found.append(np.mean([1 - share(paragraphs[row], task) for row in sample]))
    assert found == sorted(found) and found[-1] > found[0] + 0.3


@given(PARAGRAPHS, TASK, st.integers(0, 9))
def test_the_covering_size_is_the_shortest_beginning_that_covers_all_there_is(
    paragraphs: list[list[int]], task: list[list[int]], seed: int
) -> None:
    draw = make(paragraphs, task, seed=seed)
    wanted = {t for item in task for t in item}
    held = [wanted & set(paragraphs[row]) for row in draw.candidates.tolist()]
    sizes = [size for size in range(len(held) + 1) if set().union(*held[:size]) == set().union(*held)]
    assert samplers.covering_size(draw, draw.candidates) == sizes[0]


def test_a_sampler_for_a_task_says_so_when_there_is_none() -> None:
    with pytest.raises(ValueError, match="chooses for a task"):
        samplers.coverage(Draw(Ragged.from_lists([[5]]), np.array([0]), np.random.default_rng(0)))
