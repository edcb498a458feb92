"""Pre-training sets: nested by size, disjoint by role, drawn by seed, whatever the sampler."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tlm.data.corpus import SAMPLERS, Sample, sample_corpus
from tlm.data.ragged import Ragged
from tlm.errors import UserError

TOKENS = Ragged.from_lists([[i] for i in range(50)])
TASK = Ragged.from_lists([[5, 6, 7], [7, 8]])
MIXED = Ragged.from_lists(np.random.default_rng(0).integers(0, 30, size=(50, 4)))


def draw(ws: int, heldout: int = 5, seed: int = 0) -> Sample:
    return sample_corpus(TOKENS, ws=ws, heldout=heldout, sampler="random", seed=seed)


@given(st.integers(0, 45), st.integers(0, 45), st.integers(0, 2**31))
def test_a_smaller_sample_is_the_beginning_of_a_larger_one(a: int, b: int, seed: int) -> None:
    small, large = draw(min(a, b), seed=seed), draw(max(a, b), seed=seed)
    assert np.array_equal(small.rows, large.rows[: len(small.rows)])
    assert np.array_equal(small.heldout, large.heldout)


@given(st.integers(0, 40), st.integers(1, 10), st.integers(0, 2**31))
def test_the_roles_are_disjoint_and_share_out_every_row(ws: int, heldout: int, seed: int) -> None:
    sample = draw(ws, heldout, seed)
    assert (len(sample.heldout), len(sample.rows)) == (heldout, ws)
    every = np.concatenate([sample.heldout, sample.rows, sample.reserve])
    assert sorted(every.tolist()) == list(range(50))


def test_the_same_seed_draws_the_same_and_another_draws_differently() -> None:
    assert np.array_equal(draw(20).rows, draw(20).rows)
    assert not np.array_equal(draw(20).rows, draw(20, seed=1).rows)


def test_a_sample_larger_than_the_source_is_an_error_with_the_largest_that_is_possible() -> None:
    assert len(draw(45).rows) == 45
    with pytest.raises(UserError, match=r"corpus.sizes: Ws=46 .* need 51 .* has 50\. Choose Ws up to 45\."):
        draw(46)


@pytest.mark.parametrize(("available", "way_out"), [(0, "more text"), (1, "more text"), (9, "or lower corpus.heldout")])
@pytest.mark.parametrize("ws", [0, 1, 30])
def test_where_no_ws_is_possible_none_is_recommended(available: int, way_out: str, ws: int) -> None:
    tokens = Ragged.from_lists([[1]] * available)
    with pytest.raises(UserError, match=way_out) as raised:
        sample_corpus(tokens, ws=ws, heldout=20, sampler="random", seed=0)
    assert "Choose Ws" not in str(raised.value)


@given(st.lists(st.integers(0, 2), min_size=20, max_size=60), st.integers(0, 2**31))
def test_a_paragraph_without_a_token_has_no_role_and_is_counted_if_that_is_too_few(
    lengths: list[int], seed: int
) -> None:
    tokens = Ragged.from_lists([[7] * length for length in lengths])
    there = sum(length > 0 for length in lengths)
    if there < 8:
        with pytest.raises(UserError, match=f"has {there} with a token, and {len(lengths) - there} without"):
            sample_corpus(tokens, ws=4, heldout=4, sampler="random", seed=seed)
        return
    sample = sample_corpus(tokens, ws=4, heldout=4, sampler="random", seed=seed)
    roles = np.concatenate([sample.heldout, sample.rows, sample.reserve])
    assert sorted(roles) == np.flatnonzero(lengths).tolist()


# --- samplers ---


def needs(sampler: str) -> dict[str, Any]:
    """What a sampler has to be given, and nothing else."""
    entry = SAMPLERS[sampler]
    return ({"task": TASK} if entry.needs_task else {}) | ({"level": 0.5} if entry.needs_level else {})


@pytest.mark.parametrize("sampler", SAMPLERS)
@given(st.integers(4, 45), st.integers(4, 45), st.integers(0, 2**31))
@settings(max_examples=20)
def test_samples_of_every_sampler_nest_and_share_the_heldout_part(sampler: str, a: int, b: int, seed: int) -> None:
    small, large = (
        sample_corpus(MIXED, ws=ws, heldout=5, sampler=sampler, seed=seed, **needs(sampler)) for ws in sorted((a, b))
    )
    assert np.array_equal(small.rows, large.rows[: len(small.rows)])
    assert np.array_equal(small.heldout, large.heldout)
    assert np.array_equal(small.heldout, draw(1, seed=seed).heldout)
    every = np.concatenate([small.heldout, small.rows, small.reserve])
    assert sorted(every.tolist()) == list(range(50))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_repeats_itself_and_another_seed_draws_differently(sampler: str) -> None:
    def rows(seed: int) -> list[int]:
        return sample_corpus(MIXED, ws=30, heldout=5, sampler=sampler, seed=seed, **needs(sampler)).rows.tolist()

    assert rows(0) == rows(0) != rows(1)


def test_a_sample_that_could_not_cover_the_task_is_refused_with_the_size_that_can() -> None:
    def sample(ws: int) -> Sample:
        return sample_corpus(TOKENS, ws=ws, heldout=0, sampler="irrelevant", seed=0, task=TASK, level=1.0)

    assert sample(4).core == 4 and sorted(sample(4).rows.tolist()) == [5, 6, 7, 8]
    with pytest.raises(UserError, match=r"'irrelevant': Ws=3 is less than the 4 paragraphs .* Choose Ws from 4 up\."):
        sample(3)
    assert draw(3).core is None


@pytest.mark.parametrize(
    ("sampler", "arguments", "message"),
    [
        ("coverage", {}, "'coverage' chooses by a task, and none is given. .*kind: sampled"),
        ("random", {"task": TASK}, "'random' takes no task, and one is given"),
        ("irrelevant", {"task": TASK}, "'irrelevant' needs a level, and none is given. .*from 0 to 1"),
        ("bm25", {"task": TASK, "level": 0.5}, "'bm25' takes no level, and one is given"),
        ("irrelevant", {"task": TASK, "level": 1.5}, "level=1.5 is outside 0 to 1"),
        ("coverage", {"task": Ragged.from_lists([[]])}, "'coverage': the task's training items hold no token"),
    ],
)
def test_a_sampler_takes_what_it_needs_and_nothing_else(sampler: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sample_corpus(MIXED, ws=10, heldout=5, sampler=sampler, seed=0, **arguments)
