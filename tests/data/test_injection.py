"""Missing-token injection: exactly the asked tokens go, Ws stays, and the overlap falls as it should."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import numbered_vocabulary

from tlm.data.corpus import Sample, sample_corpus
from tlm.data.injection import REMOVALS, SELECTIONS, Source, inject_missing_tokens
from tlm.data.overlap import TokenCounts, count_tokens, measure_overlap
from tlm.data.ragged import Ragged, Rows
from tlm.errors import UserError
from tlm.study.treatments import Removal

VOCABULARY = numbered_vocabulary(105)
WS = 80


def zipf(size: int, length: int, seed: int, low: int = 5, high: int = 105) -> Ragged:
    """Sequences of tokens low … high - 1, the lower the more frequent."""
    generator = np.random.default_rng(seed)
    weights = 1 / np.arange(1, high - low + 1)
    return Ragged.from_lists(generator.choice(np.arange(low, high), p=weights / weights.sum(), size=(size, length)))


TOKENS = zipf(400, 6, seed=1, high=95)
TASK = count_tokens(zipf(60, 6, seed=2, low=10), VOCABULARY)
SAMPLE = sample_corpus(TOKENS, ws=WS, heldout=20, sampler="random", seed=0)
SOURCE = Source(TOKENS, SAMPLE, VOCABULARY.unk)
CORPUS = count_tokens(TOKENS.take(SAMPLE.rows), VOCABULARY)
COMMON = np.flatnonzero((CORPUS.occurrences > 0) & (TASK.occurrences > 0))


def inject(source: Source = SOURCE, counts: TokenCounts = CORPUS, **fields: Any) -> tuple[Ragged, Rows, Rows]:
    config = Removal.model_validate({"count": 4, **fields})
    return inject_missing_tokens(source, counts.occurrences, TASK.occurrences, config)


def chosen(selection: str, count: int, seed: int = 0) -> list[int]:
    return inject(selection=selection, count=count, seed=seed)[2].tolist()


@pytest.mark.parametrize("removal", REMOVALS)
@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_chosen_tokens_are_gone_and_ws_is_unchanged(selection: str, removal: str, seed: int) -> None:
    count = 4 if selection in ("rarest", "random") or removal == "unk" else 2
    try:
        tokens, rows, removed = inject(selection=selection, removal=removal, count=count, seed=seed)
    except UserError as error:
        assert removal == "drop" and "paragraphs without the removed tokens" in str(error)
        return
    assert len(removed) == len(set(removed.tolist())) == count
    assert set(removed) <= set(COMMON), "only tokens that corpus and task share"
    assert np.array_equal(removed, np.sort(removed))
    assert len(tokens) == len(rows) == WS
    assert len(set(rows.tolist())) == WS
    assert not np.isin(tokens.ids, removed).any()
    assert not set(rows) & set(SAMPLE.heldout)


@pytest.mark.parametrize("selection", SELECTIONS)
def test_replacement_lowers_the_overlap_by_exactly_the_count(selection: str) -> None:
    tokens, rows, removed = inject(selection=selection, count=7)
    before = measure_overlap(CORPUS.occurrences, TASK.occurrences)
    after = measure_overlap(count_tokens(tokens, VOCABULARY).occurrences, TASK.occurrences)
    assert after.common_types == before.common_types - 7
    assert after.missing_from_corpus == before.missing_from_corpus + 7
    assert after.missing_from_task == before.missing_from_task
    assert np.array_equal(rows, SAMPLE.rows)
    original = TOKENS.take(SAMPLE.rows)
    assert np.array_equal(tokens.offsets, original.offsets)
    gone = np.isin(original.ids, removed)
    assert (tokens.ids[gone] == VOCABULARY.unk).all() and np.array_equal(tokens.ids[~gone], original.ids[~gone])


def test_deletion_shortens_paragraphs_and_leaves_the_other_tokens() -> None:
    tokens, rows, removed = inject(removal="delete", count=5)
    for position, row in enumerate(rows):
        assert tokens[position].tolist() == [i for i in TOKENS[row].tolist() if i not in removed]


def test_a_paragraph_that_deletion_would_empty_is_replaced_from_the_reserve() -> None:
    tokens = Ragged.from_lists([[10], [10, 11], [10, 10], [11], [12, 10]])
    sample = Sample(heldout=np.array([], dtype=np.int64), rows=np.array([0, 1]), reserve=np.array([2, 3, 4]))
    source = Source(tokens, sample, VOCABULARY.unk)
    removed = np.zeros(len(VOCABULARY), dtype=bool)
    removed[10] = True
    corpus, rows = REMOVALS["delete"](source, removed)
    assert (rows.tolist(), [corpus[0].tolist(), corpus[1].tolist()]) == ([1, 3], [[11], [11]])


def test_dropping_keeps_clean_paragraphs_in_place_and_refills_in_the_reserves_order() -> None:
    _, rows, removed = inject(removal="drop", selection="rarest", count=3)
    clean = [row for row in SAMPLE.rows if not np.isin(TOKENS[row], removed).any()]
    spare = [row for row in SAMPLE.reserve if not np.isin(TOKENS[row], removed).any()]
    assert len(clean) < WS
    assert rows.tolist() == (clean + spare)[:WS]


def test_most_frequent_and_rarest_take_the_ends_of_the_ranking_by_the_tasks_counts() -> None:
    counts = TASK.occurrences
    for selection, worst_left in (("most_frequent", max), ("rarest", min)):
        taken = chosen(selection, 10)
        left = counts[np.setdiff1d(COMMON, taken)]
        inner = min(counts[taken]) if selection == "most_frequent" else max(counts[taken])
        assert inner >= worst_left(left) if selection == "most_frequent" else inner <= worst_left(left)


def test_stratified_spans_the_range_of_frequencies() -> None:
    ranks = np.argsort(np.argsort(-TASK.occurrences[COMMON], kind="stable"), kind="stable")
    for seed in range(5):
        taken = np.isin(COMMON, chosen("stratified", 5, seed))
        frequent_fifth = TASK.occurrences[COMMON][ranks < len(COMMON) // 5].min()
        rare_fifth = TASK.occurrences[COMMON][ranks >= len(COMMON) - len(COMMON) // 5].max()
        picked = TASK.occurrences[COMMON][taken]
        assert picked.max() >= frequent_fifth and picked.min() <= rare_fifth


@pytest.mark.parametrize("selection", SELECTIONS)
def test_all_tokens_can_be_chosen_and_none_too_many(selection: str) -> None:
    assert chosen(selection, len(COMMON)) == COMMON.tolist()
    with pytest.raises(UserError, match=rf"count={len(COMMON) + 1} .*Ws=80.* only {len(COMMON)} in common.*up to"):
        chosen(selection, len(COMMON) + 1)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.25, round(0.25 * len(COMMON))), (1.0, len(COMMON))])
@pytest.mark.parametrize("selection", SELECTIONS)
def test_a_share_is_of_the_tokens_in_common(selection: str, share: float, expected: int) -> None:
    assert len(inject(count=None, share=share, selection=selection)[2]) == expected


@pytest.mark.parametrize("removal", ["delete", "drop"])
def test_an_exhausted_reserve_is_an_error_with_the_way_out(removal: str) -> None:
    everything = Source(TOKENS, sample_corpus(TOKENS, ws=380, heldout=20, sampler="random", seed=0), VOCABULARY.unk)
    counts = count_tokens(TOKENS.take(everything.sample.rows), VOCABULARY)
    with pytest.raises(UserError, match=r"only \d+ paragraphs without the removed tokens are left for Ws=380.*unk"):
        inject(everything, counts, removal=removal, selection="most_frequent", count=None, share=1.0)


@pytest.mark.parametrize("removal", REMOVALS)
def test_the_same_seed_gives_the_same_corpus_and_another_seed_another_choice(removal: str) -> None:
    one, two = (inject(removal=removal, selection="rarest", count=2) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip((one[0].ids, *one[1:]), (two[0].ids, *two[1:]), strict=True))
    assert chosen("random", 5, seed=0) != chosen("random", 5, seed=1)
    assert chosen("stratified", 5, seed=0) != chosen("stratified", 5, seed=1)
