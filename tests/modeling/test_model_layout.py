"""Layouts: every token in its place, the cheapest cuts, and models that compute the same in each of them."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_models import PAD, batch, build, mlm_labels, small
from torch import Tensor
from torch.nn import functional as F

from tlm.modeling import TinyBertForMaskedLM, TinyBertForSequenceClassification
from tlm.modeling.layout import Layout, Queries

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=8).map(lambda found: np.array(sorted(found, reverse=True)))
COSTS = st.sampled_from([0, 1, 3, 10, 1_000])


def cost_of(lengths_B: NDArray[np.int64], cuts: tuple[int, ...], rectangle_cost: int) -> int:
    return sum((end - start) * int(lengths_B[start]) + rectangle_cost for start, end in pairwise(cuts))


@given(LENGTHS, COSTS, st.integers(1, 8))
def test_every_token_has_its_row_in_the_order_of_its_sequence(
    lengths_B: NDArray[np.int64], cost: int, multiple: int
) -> None:
    layout = Layout.packed(lengths_B, cost, multiple)
    assert len(layout.positions_R) == len(layout.real_R) and len(layout.real_R) % multiple == 0
    assert 0 <= layout.filler < multiple and not layout.real_R[len(layout.real_R) - layout.filler :].any()
    assert (layout.sequences, layout.longest) == (len(lengths_B), int(lengths_B[0]))
    sequence_R, first_B = layout.sequence_of(), layout.first_rows()
    assert (sequence_R.diff() >= 0).all()
    for number, length in enumerate(lengths_B.tolist()):
        rows = ((sequence_R == number) & layout.real_R).nonzero().squeeze(1)
        assert rows.tolist() == list(range(int(first_B[number]), int(first_B[number]) + length))
        assert layout.positions_R[rows].tolist() == list(range(length))
    start = 0
    for rectangle in layout.rectangles:
        own = lengths_B[start : start + rectangle.sequences]
        assert rectangle.length == own[0] and rectangle.masked == bool((own < own[0]).any())
        start += rectangle.sequences


@given(LENGTHS, COSTS)
def test_the_cuts_are_the_cheapest_of_all(lengths_B: NDArray[np.int64], cost: int) -> None:
    inner = range(1, len(lengths_B))
    every = [(0, *cuts, len(lengths_B)) for size in range(len(lengths_B)) for cuts in combinations(inner, size)]
    layout = Layout.packed(lengths_B, cost)
    found = sum(rectangle.rows + cost for rectangle in layout.rectangles)
    assert found == min(cost_of(lengths_B, cuts, cost) for cuts in every)


@pytest.mark.parametrize("lengths", [[], [1, 2], [3, 0], [2, -1]])
def test_lengths_that_make_no_layout_are_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="lengths must descend"):
        Layout.packed(np.array(lengths, dtype=np.int64), 1)


@given(LENGTHS, COSTS, st.data())
def test_queries_are_the_rows_asked_for_each_in_a_slot_of_its_sequence(
    lengths_B: NDArray[np.int64], cost: int, data: st.DataObject
) -> None:
    layout = Layout.packed(lengths_B, cost)
    chosen = data.draw(st.sets(st.sampled_from(layout.real_R.nonzero().squeeze(1).tolist()), min_size=1))
    rows_N = torch.tensor(sorted(chosen))
    queries = Queries.of(layout, rows_N)
    assert torch.equal(rows_N[queries.slots_S][queries.kept_N], rows_N)
    assert len(queries.slots_S) == layout.sequences * queries.each
    assert torch.equal(queries.kept_N // queries.each, layout.sequence_of()[rows_N])
    assert torch.equal(Queries.first(layout).rows_N, layout.first_rows())


# --- the models compute the same in every layout ---

WIDTHS = (12, 9, 9, 5, 2)
RECTANGLE_COSTS = (None, 0, 4, 8, 1_000)
"""None: as transformers calls a model, with padded ids and a mask."""


def test_these_costs_give_four_layouts() -> None:
    assert [len(packed(cost)[1].rectangles) for cost in RECTANGLE_COSTS if cost is not None] == [4, 3, 2, 1]


def packed(cost: int) -> tuple[Tensor, Layout, tuple[Tensor, Tensor]]:
    """The batch of `WIDTHS` in a layout, and where its tokens stand in the padded one."""
    ids, _ = batch(WIDTHS)
    layout = Layout.packed(np.array(WIDTHS), cost, multiple=4)
    places = (layout.sequence_of()[layout.real_R], layout.positions_R[layout.real_R])
    ids_R = torch.full((len(layout.real_R),), PAD)
    ids_R[layout.real_R] = ids[places]
    return ids_R, layout, places


def masked_lm(model: Any, cost: int | None) -> tuple[Tensor, Tensor]:
    """The loss, and the logits at predicted positions."""
    ids, mask = batch(WIDTHS)
    labels = mlm_labels(ids, mask)
    if cost is None:
        return model(ids, mask, labels=labels).loss, model.eval()(ids, mask).logits[labels != -100]
    ids_R, layout, places = packed(cost)
    labels_R = torch.full_like(ids_R, -100)
    labels_R[layout.real_R] = labels[places]
    rows_N = (labels_R != -100).nonzero().squeeze(1)
    queries = Queries.of(layout, rows_N)
    return model.loss(ids_R, layout, queries, labels_R[rows_N]), model.eval().logits(ids_R, layout, queries)


def classifier(model: Any, cost: int | None) -> tuple[Tensor, Tensor]:
    labels_B = torch.arange(len(WIDTHS)) % 3
    if cost is None:
        ids, mask = batch(WIDTHS)
        logits_BL = model(ids, mask).logits
    else:
        ids_R, layout, _ = packed(cost)
        logits_BL = model.logits(ids_R, layout)
    return F.cross_entropy(logits_BL, labels_B), logits_BL


@pytest.mark.parametrize(
    ("head", "run"), [(TinyBertForMaskedLM, masked_lm), (TinyBertForSequenceClassification, classifier)]
)
@pytest.mark.parametrize("training", [True, False])
def test_no_layout_changes_loss_logits_gradients_or_statistics(name: str, head: Any, run: Any, training: bool) -> None:
    results = []
    for cost in RECTANGLE_COSTS:
        model = build(head, small(name)).double().train(training)  # a gradient near nothing has no digits in float32
        loss, logits = run(model, cost)
        loss.backward()
        # Attention does not see the keys' bias: its gradient is nothing but rounding.
        gradients = {
            k: p.grad for k, p in model.named_parameters() if p.grad is not None and not k.endswith("key.bias")
        }
        results.append((loss.detach(), logits.detach(), gradients, dict(model.named_buffers())))
    (loss, logits, gradients, buffers), *others = results
    for other in others:
        torch.testing.assert_close(other[0], loss, atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(other[1], logits, atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(other[3], buffers, atol=1e-10, rtol=1e-10)
        assert other[2].keys() == gradients.keys()
        for key, gradient in gradients.items():
            difference = (other[2][key] - gradient).norm()
            assert difference <= 1e-8 * gradient.norm() + 1e-14, (key, float(difference / gradient.norm()))
