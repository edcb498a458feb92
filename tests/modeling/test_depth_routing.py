"""Mixture of depths: a part of the tokens goes through every second layer, and no route depends on what comes later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tiny_models import LABELS, VOCAB, batch, build, config_of, small

from tlm.errors import UserError
from tlm.modeling import TinyLlamaForCausalLM, TinyLlamaForSequenceClassification
from tlm.modeling.cost import count_parameters, expected_parameters, language_model_flops
from tlm.modeling.decoder import flat_causal
from tlm.modeling.interchange import load_encoder_into_classifier, load_strict, save
from tlm.modeling.layout import Layout, Queries
from tlm.modeling.llama import RoutedLayer
from tlm.modeling.llama_form import to_llama
from tlm.study.architecture import Architecture

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def arch_of(capacity: float, **options: Any) -> Architecture:
    return small("micro", options={"depth_capacity": capacity, **options})


def routed(capacity: float = 0.5) -> Any:
    """A model whose thresholds are those of a few batches in training."""
    model = build(TinyLlamaForCausalLM, arch_of(capacity))
    for _ in range(60):
        model(*batch())
    return model.eval()


def rows_through(layer: Any, model: Any, *given: Any) -> list[int]:
    """How many rows went through a layer in each of its calls."""
    seen: list[int] = []
    hook = layer.self_attn.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    with torch.no_grad():
        model(*given)
    hook.remove()
    return seen


@pytest.mark.parametrize("kept", [1, 4, 9, 12])
@pytest.mark.parametrize("training", [False, True])
def test_cutting_the_future_leaves_log_p_unchanged(kept: int, training: bool) -> None:
    model = routed().train(training)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ids, _ = batch(lengths=(12, 12), width=12)
    with torch.no_grad():
        whole = model(ids).logits.log_softmax(-1)
        model.load_state_dict(state)  # in training the thresholds of later steps follow from this one
        cut = model(ids[:, :kept]).logits.log_softmax(-1)
    torch.testing.assert_close(cut, whole[:, :kept], **CLOSE)


def test_what_shares_a_batch_or_how_it_lies_changes_nothing() -> None:
    model = routed()
    ids, mask = batch()
    with torch.no_grad():
        together = model(ids, mask).logits
        for row, length in enumerate(mask.sum(dim=1).tolist()):
            alone = model(ids[row : row + 1, :length]).logits
            torch.testing.assert_close(alone[0], together[row, :length], **CLOSE)


def test_of_capacity_1_no_layer_is_routed_and_the_model_is_the_dense_one() -> None:
    dense, whole = (build(TinyLlamaForCausalLM, arch) for arch in (small("micro"), arch_of(1.0)))
    assert not any(isinstance(module, RoutedLayer) for module in whole.modules())
    assert dense.state_dict().keys() == whole.state_dict().keys()
    ids, mask = batch()
    with torch.no_grad():
        assert torch.equal(dense(ids, mask).logits, whole(ids, mask).logits)
    assert arch_of(1.0).identity() == small("micro").identity()


def test_the_share_of_tokens_that_go_through_is_the_capacity_and_others_cost_nothing() -> None:
    ids, mask = batch(lengths=(12,) * 24)
    model = build(TinyLlamaForCausalLM, arch_of(0.25))
    for _ in range(80):
        model(ids, mask)
    first, second, third, fourth = model.model.layers
    assert rows_through(first, model, ids, mask) == rows_through(third, model, ids, mask) == [24 * 12]
    for layer in (second, fourth):
        scores = []
        hook = layer.input_layernorm.register_forward_hook(
            lambda module, inputs, output, scores=scores: scores.append(output)
        )
        model.eval()
        (rows,) = rows_through(layer, model, ids, mask)
        hook.remove()
        through = ((scores[0] * layer.router.weight).sum(dim=1) > layer.threshold).float().mean()
        assert 0.2 <= float(through) <= 0.3 and rows < 24 * 12


def test_routers_and_all_that_is_below_them_learn_from_the_loss() -> None:
    model = routed().train()
    ids, mask = batch()
    model(ids, mask, labels=torch.where(mask.bool(), ids, -100)).loss.backward()
    gradients = {name: float(parameter.grad.abs().sum()) for name, parameter in model.named_parameters()}
    assert all(value > 0 for value in gradients.values()) and "model.layers.1.router.weight" in gradients


def test_evaluation_moves_no_threshold() -> None:
    model = routed()
    before = [layer.threshold.clone() for layer in (model.model.layers[1], model.model.layers[3])]
    model(*batch())
    assert [float(each) for each in before] == [float(model.model.layers[each].threshold) for each in (1, 3)]


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=5).map(lambda found: np.array(sorted(found, reverse=True))),
    st.integers(0, 2**20),
)
def test_rows_of_a_layout_keep_their_order_within_their_sequence(lengths_B: Any, seed: int) -> None:
    layout = Layout.packed(lengths_B, rectangle_cost=3, multiple=4)
    which_R = (torch.rand(len(layout.real_R), generator=torch.Generator().manual_seed(seed)) < 0.5) & layout.real_R
    rows_M, inner = layout.only(which_R)
    assert sorted(rows_M[inner.real_R].tolist()) == which_R.nonzero().squeeze(1).tolist()
    assert torch.equal(inner.positions_R, layout.positions_R[rows_M])
    assert sum(rectangle.rows for rectangle in inner.rectangles) == len(rows_M)
    if len(rows_M):
        sequences = inner.sequence_of()
        for sequence in range(inner.sequences):
            own = rows_M[(sequences == sequence) & inner.real_R].tolist()
            assert own == sorted(own) and len({int(layout.sequence_of()[row]) for row in own}) <= 1


def test_a_saved_model_is_the_same_and_gives_a_classifier_its_routes(tmp_path: Path) -> None:
    model, (ids, mask) = routed(), batch()
    save(model, tmp_path)
    again = load_strict(TinyLlamaForCausalLM, tmp_path)
    with torch.no_grad():
        assert torch.equal(again(ids, mask).logits, model(ids, mask).logits)
    classifier = TinyLlamaForSequenceClassification(config_of(arch_of(0.5)))
    load_encoder_into_classifier(classifier, tmp_path)
    assert torch.equal(classifier.model.layers[1].threshold, model.model.layers[1].threshold)
    assert classifier(ids, mask).logits.shape == (3, LABELS)
    with pytest.raises(UserError, match=r"no depth_capacity=0.5"):
        to_llama(model)


def test_parameters_and_operations_are_as_said() -> None:
    dense, half = small("micro"), arch_of(0.5)
    sizes = {"vocab_size": VOCAB, "max_position_embeddings": 24}
    assert count_parameters(build(TinyLlamaForCausalLM, half)) == expected_parameters(half, **sizes)
    assert expected_parameters(half, **sizes) - expected_parameters(dense, **sizes) == 2 * half.hidden_size
    whole, less = (language_model_flops(each, 12, 0, VOCAB) for each in (dense, half))
    assert 0.7 < less / whole < 0.8, "two of four layers have half of the tokens"


@pytest.mark.parametrize("capacity", [0.0, -0.5, 1.5])
def test_a_capacity_outside_0_to_1_is_refused(capacity: float) -> None:
    with pytest.raises(ValidationError, match="depth_capacity"):
        arch_of(capacity)


@pytest.mark.parametrize(
    ("options", "fields", "complaint"),
    [
        ({}, {"num_hidden_layers": 1}, "of every second layer, and micro has one"),
        ({"sharing": {"what": "block"}}, {}, "sharing: block"),
        ({"exits": [1]}, {}, r"depth_capacity=0.5 and exits=\[1\]: give one"),
    ],
)
def test_what_cannot_be_routed_is_refused(options: dict[str, Any], fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        small("micro", options={"depth_capacity": 0.5, **options}, **fields)
    with pytest.raises(ValidationError, match="all patches of a model of bytes"):
        small("byte-micro", options={"depth_capacity": 0.5, "byte": {"width": 8, "num_attention_heads": 2}})


def test_the_rows_of_a_batch_are_those_of_its_layout() -> None:
    ids, mask = batch()
    ids_R, layout = flat_causal(ids, mask)
    model = routed()
    queries = Queries.of(layout, layout.real_R.nonzero().squeeze(1))
    with torch.no_grad():
        torch.testing.assert_close(model.logits(ids_R, layout, queries), model(ids, mask).logits[mask.bool()], **CLOSE)
