"""The decoder is transformers' GPT-2. It and that of the Llama kind (`test_llama.py`) never look ahead, in any layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_models import CLS, LABELS, PAD, POSITIONS, VOCAB, batch, build, config_of, small
from torch import Tensor
from torch.nn import functional as F
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel

from tlm.errors import UserError
from tlm.modeling import (
    TinyGptConfig,
    TinyGptForCausalLM,
    TinyGptForSequenceClassification,
    TinyGptModel,
    TinyLlamaForCausalLM,
    TinyLlamaForSequenceClassification,
    TinyLlamaModel,
)
from tlm.modeling import attention as attention_module
from tlm.modeling.attention import attention
from tlm.modeling.gpt2 import from_gpt2, to_gpt2
from tlm.modeling.layout import Layout, Queries
from tlm.study.architecture import variant

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
WIDTHS = (12, 9, 9, 5, 2)
LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6).map(lambda found: np.array(sorted(found, reverse=True)))
HEADS = (TinyGptForCausalLM, TinyGptForSequenceClassification)
LLAMA = (TinyLlamaForCausalLM, TinyLlamaForSequenceClassification)
SHARED = {"sharing": {"what": "block", "lora_rank": 2, "lora_alpha": 4.0}}
FAMILIES = [(HEADS, "gpt6", {}), (HEADS, "gpt1", {}), (LLAMA, "micro", {}), (LLAMA, "micro", SHARED)]
FAMILY_IDS = ["gpt6", "gpt1", "micro", "micro, shared"]


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).detach().norm() / expected.detach().norm().clamp(min=1e-4))


def theirs_of(model_class: type, layers: int = 2) -> Any:
    torch.manual_seed(3)
    sizes = {"vocab_size": VOCAB, "n_embd": 16, "n_head": 4, "n_layer": layers, "n_positions": POSITIONS}
    dropouts = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return model_class(GPT2Config(**sizes, **dropouts, pad_token_id=PAD, num_labels=LABELS)).eval()


def next_tokens(mask: Tensor, ids: Tensor) -> Tensor:
    return torch.where(mask.bool(), ids, -100)


# --- transformers' GPT-2 ---


@pytest.mark.parametrize("name", ["gpt6", "gpt1"])
def test_logits_loss_and_gradients_are_those_of_gpt2(name: str) -> None:
    ours = build(TinyGptForCausalLM, small(name))
    theirs: Any = to_gpt2(ours).train()
    ids, mask = batch()
    for attended in (mask, None):
        mine, reference = ours(ids, attended).logits, theirs(ids, attention_mask=attended).logits
        real = (torch.ones_like(ids) if attended is None else attended).bool()
        assert relative(mine[real], reference[real]) < 1e-5
    labels = next_tokens(mask, ids)
    mine, reference = ours(ids, mask, labels=labels).loss, theirs(ids, attention_mask=mask, labels=labels).loss
    assert mine.item() == pytest.approx(reference.item(), rel=1e-5)
    mine.backward()
    reference.backward()
    gradients = dict(theirs.named_parameters())
    assert gradients.keys() == dict(ours.named_parameters()).keys()
    for key, parameter in ours.named_parameters():
        expected = gradients[key].grad
        expected = expected.t() if ".c_" in key and key.endswith("weight") else expected
        if key.endswith("c_attn.bias"):  # softmax does not see the keys' bias: rounding alone
            keep = torch.arange(len(expected)) // (len(expected) // 3) != 1
            assert relative(parameter.grad[keep], expected[keep]) < 2e-5, key
        else:
            assert relative(parameter.grad, expected) < 2e-5, key


def test_the_classifier_is_gpt2s() -> None:
    ours = build(TinyGptForSequenceClassification, small("gpt6"))
    theirs: Any = to_gpt2(ours)
    ids, mask = batch()
    labels = torch.tensor([0, 4, 2])
    mine, reference = ours(ids, mask, labels=labels), theirs(ids, attention_mask=mask, labels=labels)
    torch.testing.assert_close(mine.logits, reference.logits, **CLOSE)
    torch.testing.assert_close(mine.loss, reference.loss, **CLOSE)


@pytest.mark.parametrize("model_class", [GPT2LMHeadModel, GPT2ForSequenceClassification])
def test_gpt2_comes_and_goes_unchanged(model_class: type) -> None:
    theirs = theirs_of(model_class)
    before = torch.get_rng_state()
    ours: Any = from_gpt2(theirs)
    again: Any = to_gpt2(ours)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in theirs.state_dict().items())
    ids, mask = batch()
    with torch.no_grad():
        mine, reference = ours(ids, mask).logits, theirs(ids, attention_mask=mask).logits
    kept = mask.bool() if mine.ndim == 3 else slice(None)
    torch.testing.assert_close(mine[kept], reference[kept], **CLOSE)


@pytest.mark.parametrize(("field", "value"), [("activation_function", "relu"), ("embd_pdrop", 0.3)])
def test_a_gpt2_that_we_cannot_be_is_refused(field: str, value: object) -> None:
    theirs = theirs_of(GPT2LMHeadModel)
    setattr(theirs.config, field, value)
    with pytest.raises(UserError, match=f"{field}="):
        from_gpt2(theirs)


@pytest.mark.parametrize("head", HEADS)
def test_initialisation_is_gpt2s_and_follows_the_seed(head: type) -> None:
    def fresh(seed: int) -> Any:
        torch.manual_seed(seed)
        return head(config_of(small("gpt6", head_size=16)))

    first, same, other = fresh(0), fresh(0), fresh(1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), same.parameters(), strict=True))
    assert not torch.equal(first.transformer.wte.weight, other.transformer.wte.weight)
    for key, parameter in first.named_parameters():
        if key.endswith("bias"):
            assert not parameter.any(), key
        elif ".ln_" in key:
            assert (parameter == 1).all(), key
        else:
            std = 0.02 / 12**0.5 if "c_proj" in key else 0.02  # two residual projections in each of six layers
            assert parameter.std().item() == pytest.approx(std, rel=0.15), key


# --- causality ---


@given(LENGTHS, st.sampled_from([0, 3, 1_000]), st.data())
def test_a_later_token_changes_no_earlier_output(lengths_B: NDArray[np.int64], cost: int, data: st.DataObject) -> None:
    body, name = data.draw(st.sampled_from([(TinyGptModel, "gpt6"), (TinyLlamaModel, "micro")]))
    model = build(body, small(name, num_hidden_layers=2)).eval()
    layout = Layout.packed(lengths_B, cost, multiple=4)
    ids_R = torch.arange(len(layout.real_R)) % VOCAB
    changed = data.draw(st.sampled_from(layout.real_R.nonzero().squeeze(1).tolist()))
    other_R = ids_R.clone()
    other_R[changed] = (ids_R[changed] + data.draw(st.integers(1, VOCAB - 1))) % VOCAB
    with torch.no_grad():
        before, after = model.decode(ids_R, layout), model.decode(other_R, layout)
    sequence_R = layout.sequence_of()
    sees = (sequence_R == sequence_R[changed]) & (layout.positions_R >= layout.positions_R[changed]) & layout.real_R
    untouched = layout.real_R & ~sees
    assert torch.equal(before[untouched], after[untouched])
    assert (before[sees] != after[sees]).any(dim=1).all(), "and every later one sees it"


def test_a_token_after_padding_is_refused() -> None:
    ids, mask = batch()
    for head in (*HEADS, TinyGptModel, *LLAMA, TinyLlamaModel):
        with pytest.raises(ValueError, match="padding must follow"):
            build(head, small("gpt1" if "Gpt" in head.__name__ else "micro"))(ids, mask.flip(1))


# --- layouts ---


def packed(cost: int) -> tuple[Tensor, Layout, tuple[Tensor, Tensor]]:
    ids, _ = batch(WIDTHS)
    layout = Layout.packed(np.array(WIDTHS), cost, multiple=4)
    places = (layout.sequence_of()[layout.real_R], layout.positions_R[layout.real_R])
    ids_R = torch.full((len(layout.real_R),), PAD)
    ids_R[layout.real_R] = ids[places]
    return ids_R, layout, places


def language_model(model: Any, cost: int | None) -> tuple[Tensor, Tensor]:
    ids, mask = batch(WIDTHS)
    if cost is None:
        predicting = mask.bool() & F.pad(mask[:, 1:], (0, 1)).bool()
        return model(ids, mask, labels=next_tokens(mask, ids)).loss, model(ids, mask).logits[predicting]
    ids_R, layout, _ = packed(cost)
    labelled = (layout.real_R & (layout.positions_R > 0)).nonzero().squeeze(1)
    queries = Queries.of(layout, labelled - 1)
    return model.loss(ids_R, layout, queries, ids_R[labelled]), model.logits(ids_R, layout, queries)


def classifier(model: Any, cost: int | None) -> tuple[Tensor, Tensor]:
    labels_B = torch.arange(len(WIDTHS)) % 3
    if cost is None:
        out = model(*batch(WIDTHS), labels=labels_B)
        return out.loss, out.logits
    ids_R, layout, _ = packed(cost)
    return model.loss(ids_R, layout, labels_B), model.logits(ids_R, layout)


@pytest.mark.parametrize("run", [language_model, classifier])
@pytest.mark.parametrize(("heads", "name", "options"), FAMILIES, ids=FAMILY_IDS)
def test_no_layout_changes_loss_logits_or_gradients(heads: Any, name: str, options: dict[str, Any], run: Any) -> None:
    head = heads[run is classifier]
    results = []
    for cost in (None, 0, 4, 8, 1_000):
        model = build(head, small(name, options=options))
        loss, logits = run(model, cost)
        loss.backward()
        results.append((loss.detach(), logits.detach(), {k: p.grad for k, p in model.named_parameters()}))
    for other in results[1:]:
        torch.testing.assert_close(other[0], results[0][0], **CLOSE)
        torch.testing.assert_close(other[1], results[0][1], **CLOSE)
        for key, gradient in results[0][2].items():
            assert relative(other[2][key], gradient) < 2e-5, key


def test_padding_changes_nothing_and_neither_does_its_absence() -> None:
    for head, name in zip((*HEADS, *LLAMA), ("gpt6", "gpt6", "micro", "micro"), strict=True):
        model = build(head, small(name)).eval()
        found = []
        for width in (12, 13, 24):
            ids, mask = batch(width=width)
            logits = model(ids, mask).logits
            found.append(logits[mask.bool()] if logits.ndim == 3 else logits)
        torch.testing.assert_close(found[1], found[0], **CLOSE)
        torch.testing.assert_close(found[2], found[0], **CLOSE)
        ids, mask = batch(lengths=(12, 12))
        torch.testing.assert_close(model(ids).logits, model(ids, mask).logits, **CLOSE)


def test_the_last_row_of_a_sequence_is_that_of_its_last_token() -> None:
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]]).bool()
    assert Layout.padded(mask).last_rows().tolist() == [2, 4, 8, 15]
    assert Layout.packed(np.array([5, 3, 2]), 1_000, multiple=8).last_rows().tolist() == [4, 7, 11]


# --- attention ---


@pytest.mark.parametrize("both_ways", [(), (1, 2, 3), (0, 2, 5)])
def test_causal_attention_is_torchs_for_every_sequence(
    both_ways: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    layout, heads = Layout.packed(np.array([9, 8, 8, 5, 2, 1]), rectangle_cost=2, multiple=4), 2
    layout = layout.seen_both_ways(np.isin(np.arange(6), both_ways))
    q, k, v = (torch.randn(len(layout.real_R), 8, requires_grad=True) for _ in range(3))
    slopes = torch.randn(len(layout.real_R), 8) * layout.real_R[:, None]
    sequence_R, expected = layout.sequence_of(), torch.zeros(len(layout.real_R), 8)
    for number in range(layout.sequences):
        rows = ((sequence_R == number) & layout.real_R).nonzero().squeeze(1)
        own = [x[rows].view(len(rows), heads, -1).transpose(0, 1) for x in (q, k, v)]
        out = F.scaled_dot_product_attention(*own, is_causal=number not in both_ways)
        expected = expected.index_copy(0, rows, out.transpose(0, 1).flatten(1))
    real = layout.real_R
    for written_out in (True, False):
        monkeypatch.setattr(attention_module, "written_out", lambda device, ours=written_out: ours)
        mine = attention(q, k, v, layout, heads, causal=True)
        torch.testing.assert_close(mine[real], expected[real])
        found, reference = (
            torch.autograd.grad((out * slopes).sum(), (q, k, v), retain_graph=True) for out in (mine, expected)
        )
        for a, b in zip(found, reference, strict=True):
            torch.testing.assert_close(a[real], b[real])
    with pytest.raises(ValueError, match="layout's rows as queries"):
        attention(q, k, v, layout, heads, each=1, causal=True)


@pytest.mark.parametrize("p", [0.0, 0.4])
def test_causal_attention_has_the_gradient_of_finite_differences(p: float) -> None:
    torch.manual_seed(0)
    layout = Layout.packed(np.array([4, 4, 2]), rectangle_cost=100)
    q, k, v = (torch.randn(len(layout.real_R), 4, dtype=torch.float64, requires_grad=True) for _ in range(3))

    def same_draw(*given: Tensor) -> Tensor:
        torch.manual_seed(3)
        return attention(*given, layout, 2, p=p, causal=True)

    assert torch.autograd.gradcheck(same_draw, (q, k, v))


# --- the rest ---


@pytest.mark.parametrize(("heads", "name", "options"), FAMILIES, ids=FAMILY_IDS)
def test_bfloat16_autocast_stays_close_and_dropout_draws(heads: Any, name: str, options: dict[str, Any]) -> None:
    ids, mask = batch()
    labels = next_tokens(mask, ids)
    dropout = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    model = build(heads[0], small(name, options=options, **dropout))
    with torch.autocast("cpu", torch.bfloat16):
        model(ids, mask, labels=labels).loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert model(ids, mask, labels=labels).loss != model(ids, mask, labels=labels).loss
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        low = model(ids, mask, labels=labels).loss
    with torch.no_grad():
        assert low.item() == pytest.approx(model(ids, mask, labels=labels).loss.item(), rel=0.05)


@pytest.mark.parametrize(("head", "name"), [(TinyGptForCausalLM, "gpt1"), (TinyLlamaForCausalLM, "micro")])
def test_nothing_to_predict_is_loss_zero(head: type, name: str) -> None:
    model = build(head, small(name))
    ids, mask = batch()
    loss = model(ids, mask, labels=torch.full_like(ids, -100)).loss
    loss.backward()
    assert loss.item() == 0.0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_impossible_configurations_and_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"25 positions, but the model has 24"):
        build(TinyGptForCausalLM, small("gpt1"))(torch.ones(1, 25, dtype=torch.long))
    sizes = {"vocab_size": VOCAB, "max_position_embeddings": 8, "cls_token_id": CLS}
    with pytest.raises(ValueError, match="pad_token_id=53 is outside"):
        TinyGptConfig.from_architecture(small("gpt1"), pad_token_id=53, **sizes)
    with pytest.raises(ValueError, match="bert6 is of kind encoder, not decoder"):
        TinyGptConfig.from_architecture(small("bert6"), pad_token_id=PAD, **sizes)
    with pytest.raises(ValueError, match="does not divide"):
        TinyGptConfig(hidden_size=10, num_attention_heads=3)
    with pytest.raises(ValueError, match="neither a convolutional front"):
        variant("gpt1", conv_kernel_sizes=((3, 3),), conv_channels=2)
