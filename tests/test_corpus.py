"""Pre-training sets: nested by size, disjoint by role, drawn by seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlm.corpus import Sample, sample_corpus
from tlm.errors import UserError
from tlm.ragged import Ragged

TOKENS = Ragged.from_lists([[i] for i in range(50)])


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
    with pytest.raises(UserError, match=r"Choose Ws up to 0\."):
        draw(1, heldout=60)
