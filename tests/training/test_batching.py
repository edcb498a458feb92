"""Batches hold every item once an epoch, as [CLS] tokens [SEP], whatever their layout."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from toy import VOCABULARY

from tlm.data.ragged import Ragged
from tlm.modeling.packing import pack
from tlm.training.batching import EpochOrder, epoch_order, evaluation_batches


@given(
    st.lists(st.lists(st.integers(5, 39), max_size=12), min_size=1, max_size=5),
    st.integers(4, 12),
    st.sampled_from([-1, 0, 1, 5, 1_000]),
)
def test_a_batch_is_cls_tokens_sep_whatever_its_layout(sequences: list[list[int]], longest: int, cost: int) -> None:
    batch = pack(Ragged.from_lists(sequences), np.arange(len(sequences)), VOCABULARY, longest, cost)
    assert sorted(batch.order_B) == list(range(len(sequences)))
    assert len(batch.ids_R) == len(batch.layout.real_R) == len(batch.layout.positions_R)
    sequence_R = batch.layout.sequence_of()
    for place, item in enumerate(batch.order_B):
        rows = (sequence_R == place) & batch.layout.real_R
        assert batch.ids_R[rows].tolist() == [VOCABULARY.cls, *sequences[item][: longest - 2], VOCABULARY.sep]
        assert batch.layout.positions_R[rows].tolist() == list(range(int(rows.sum())))
    assert (batch.ids_R[~batch.layout.real_R] == VOCABULARY.pad).all()


@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 1_000))
def test_every_item_comes_once_an_epoch(size: int, batch_size: int, seed: int) -> None:
    order = EpochOrder(size, batch_size, seed)
    assert order.steps_per_epoch == math.ceil(size / batch_size)
    for epoch in range(3):
        steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
        assert all(order.batch(step)[0] == epoch for step in steps)
        assert sorted(row for step in steps for row in order.batch(step)[1].tolist()) == list(range(size))


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    assert np.array_equal(epoch_order(20, 0, 0), epoch_order(20, 0, 0))
    assert not np.array_equal(epoch_order(20, 0, 0), epoch_order(20, 0, 1))
    assert not np.array_equal(epoch_order(20, 0, 0), epoch_order(20, 1, 0))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.integers(1, 6))
def test_evaluation_batches_hold_every_item_once_the_longest_first(lengths: list[int], size: int) -> None:
    batches = evaluation_batches(np.array(lengths), size)
    assert sorted(row for batch in batches for row in batch.tolist()) == list(range(len(lengths)))
    assert [lengths[row] for batch in batches[::-1] for row in batch] == sorted(lengths)
    assert all(len(batch) == size for batch in batches[1:])
