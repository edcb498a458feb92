"""Word vectors from counts: the matrix is the formula's, and the vectors repeat themselves to the bit."""

from __future__ import annotations

import math
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from threadpoolctl import threadpool_limits

from tlm.data import ppmi
from tlm.data.ppmi import ppmi_matrix, ppmi_svd
from tlm.data.ragged import Ragged
from tlm.errors import UserError
from tlm.study.initialization import PpmiSvdConfig

TEXT = Ragged.from_lists(np.random.default_rng(0).zipf(1.6, (60, 20)) % 40)


def by_definition(sequences: Ragged, vocab_size: int, config: PpmiSvdConfig) -> np.ndarray:
    """The matrix pair by pair, as it is written in a textbook."""
    pairs = np.zeros((vocab_size, vocab_size))
    for row in range(len(sequences)):
        ids = sequences[row].tolist()
        for i, token in enumerate(ids):
            for j in range(max(0, i - config.window), min(len(ids), i + config.window + 1)):
                pairs[token, ids[j]] += i != j
    weights = pairs.sum(axis=0) ** config.context_power
    found = np.zeros_like(pairs)
    for w, c in np.argwhere(pairs > 0):
        chance = pairs[w].sum() / pairs.sum() * weights[c] / weights.sum()
        found[w, c] = max(0.0, math.log(pairs[w, c] / pairs.sum() / chance))
    return found


@given(
    lists=st.lists(arrays.arrays(np.uint16, st.integers(0, 12), elements=st.integers(0, 8)), max_size=8),
    window=st.integers(1, 4),
    power=st.sampled_from([0.5, 0.75, 1.0]),
    at_once=st.sampled_from([3, 1_000]),
)
@settings(max_examples=60, deadline=None)
def test_the_matrix_is_that_of_the_definition_however_the_text_is_cut(
    lists: list[np.ndarray], window: int, power: float, at_once: int
) -> None:
    text, config = Ragged.from_lists(lists), PpmiSvdConfig(window=window, context_power=power)
    with patch.object(ppmi, "COUNTED_AT_ONCE", at_once):
        found = ppmi_matrix(text, 9, config)
    np.testing.assert_allclose(found.toarray(), by_definition(text, 9, config), atol=1e-5)


def test_the_vectors_are_the_best_of_their_rank_scaled_and_zero_for_tokens_without_a_neighbour() -> None:
    config = PpmiSvdConfig()
    vectors = ppmi_svd(TEXT, 50, 40, config)
    known = np.isin(np.arange(50), TEXT.ids)
    assert vectors.dtype == np.float32 and not vectors[~known].any()
    assert vectors[known].std() == pytest.approx(config.std, rel=1e-5)
    left, scale, _ = np.linalg.svd(ppmi_matrix(TEXT, 50, config).toarray())
    exact = (left * np.sqrt(scale))[:, :40]
    exact *= config.std / exact[known].std()
    np.testing.assert_allclose(vectors @ vectors.T, exact @ exact.T, atol=2e-3)  # signs and turns say nothing


def test_the_same_bits_come_out_again_with_any_number_of_threads_and_others_with_another_seed() -> None:
    text = Ragged.from_lists(np.random.default_rng(0).zipf(1.3, (300, 60)) % 900)
    found = []
    for threads in (1, 2, 4):
        with threadpool_limits(limits=threads):
            found.append(ppmi_svd(text, 900, 64, PpmiSvdConfig()))
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()
    assert not np.array_equal(found[0], ppmi_svd(text, 900, 64, PpmiSvdConfig(seed=1)))


@pytest.mark.parametrize(
    ("text", "dimensions", "problem"),
    [
        (TEXT, 51, "51 dimensions are asked of a vocabulary of 50 tokens"),
        (Ragged.from_lists([[1], [2], []]), 4, "no two tokens of the pre-training set go together"),
    ],
)
def test_what_gives_no_vectors_is_refused(text: Ragged, dimensions: int, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        ppmi_svd(text, 50, dimensions, PpmiSvdConfig())
