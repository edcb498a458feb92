"""Behaviour of the models: padding, masked-only loss, dropout, initialisation, the frozen [CLS]."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from tiny_models import CLS, CONV_NAMES, PAD, batch, build, config_of, mlm_labels, small
from torch import Tensor
from torch.nn import functional as F

from tlm.modeling import TinyBertForMaskedLM, TinyBertForSequenceClassification
from tlm.modeling.conv_front import BatchNormGelu2d, ConvLayer


def _watched(forward: Callable[..., Tensor], positions: list[int]) -> Callable[..., Tensor]:
    """`forward` of a ConvLayer, which notes how many positions its images have."""

    def watched(layer: ConvLayer, x_BCTD: Tensor, gaps_G: Tensor | None) -> Tensor:
        positions.append(x_BCTD.shape[2])
        return forward(layer, x_BCTD, gaps_G)

    return watched


@pytest.mark.parametrize("training", [True, False])
def test_padding_changes_nothing_at_real_positions(name: str, training: bool) -> None:
    results = []
    for width in (12, 13, 24):
        mlm = build(TinyBertForMaskedLM, small(name)).train(training)
        classifier = build(TinyBertForSequenceClassification, small(name)).train(training)
        ids, mask = batch(width=width)
        statistics = [b for n, b in mlm.named_buffers() if "running" in n]
        results.append([mlm(ids, mask).logits[mask.bool()], classifier(ids, mask).logits, *statistics])
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_without_padding_no_mask_is_needed(name: str, training: bool) -> None:
    model = build(TinyBertForMaskedLM, small(name)).train(training)
    ids, mask = batch(lengths=(12, 12, 12))
    torch.testing.assert_close(model(ids, mask).logits, model(ids).logits, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", CONV_NAMES)
def test_convolutions_of_an_evaluation_see_a_few_sequences_at_once_and_no_neighbour(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(ConvLayer, "forward", _watched(ConvLayer.forward, seen))
    model = build(TinyBertForMaskedLM, small(name)).eval()
    ids, mask = batch(lengths=(12, 3, 9))
    whole = model(ids, mask).logits[mask.bool()]
    together = max(seen)
    seen.clear()
    monkeypatch.setattr("tlm.modeling.conv_front.EVALUATED_AT_ONCE", 1)
    torch.testing.assert_close(model(ids, mask).logits[mask.bool()], whole, atol=2e-5, rtol=1e-4)
    assert max(seen) < together
    seen.clear()
    model.train()(ids, mask)
    assert min(seen) == together, "in training the statistics are those of the whole batch"


@pytest.mark.parametrize("name", CONV_NAMES)
def test_the_reference_habit_depends_on_padding(name: str) -> None:
    model = build(TinyBertForMaskedLM, small(name, conv_over_padding=True)).eval()
    (ids, mask), (wide_ids, wide_mask) = batch(), batch(width=20)
    assert not torch.allclose(model(ids, mask).logits[mask.bool()], model(wide_ids, wide_mask).logits[wide_mask.bool()])


def test_batch_norm_and_gelu_with_gaps_are_those_of_the_real_positions() -> None:
    torch.manual_seed(0)
    masked, plain = BatchNormGelu2d(3), torch.nn.BatchNorm2d(3)
    x = (torch.randn(4, 3, 6, 5) * 3 + 2).requires_grad_()
    gaps = torch.tensor([2, 5])
    y = masked(x.clone(), gaps)
    real = x[:, :, [0, 1, 3, 4]]
    expected = F.gelu(plain(real))
    torch.testing.assert_close(y[:, :, [0, 1, 3, 4]], expected)
    assert not y[:, :, gaps].any()
    torch.testing.assert_close(dict(masked.named_buffers()), dict(plain.named_buffers()))
    slopes = torch.randn_like(expected)
    mine = torch.autograd.grad((y[:, :, [0, 1, 3, 4]] * slopes).sum(), [x, masked.weight, masked.bias])
    reference = torch.autograd.grad((expected * slopes).sum(), [x, plain.weight, plain.bias])
    torch.testing.assert_close(mine, reference)


@pytest.mark.parametrize("kernel", [(3, 3), (16, 3), (1, 1), (4, 2)])
@pytest.mark.parametrize("channels", [1, 3])
def test_convolutions_keep_the_size_as_torch_does(kernel: tuple[int, int], channels: int) -> None:
    torch.manual_seed(0)
    layer, x = ConvLayer(channels, 2, kernel).eval(), torch.randn(2, channels, 9, 7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, about even kernels
        same = F.conv2d(x, layer.conv.weight, padding="same")
    torch.testing.assert_close(layer(x, None), layer.norm(same))


def test_masked_only_loss_is_the_full_loss(name: str) -> None:
    ids, mask = batch()
    labels = mlm_labels(ids, mask)
    only, full = (build(TinyBertForMaskedLM, small(name)) for _ in range(2))
    out = only(ids, mask, labels=labels)
    logits = full(ids, mask).logits
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    torch.testing.assert_close(out.loss, loss)
    out.loss.backward()
    loss.backward()
    for (key, mine), reference in zip(only.named_parameters(), full.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, reference.grad, atol=1e-6, rtol=1e-3, msg=key)


def test_a_batch_with_nothing_masked_has_loss_zero(name: str) -> None:
    model = build(TinyBertForMaskedLM, small(name))
    ids, mask = batch()
    out = model(ids, mask, labels=torch.full_like(ids, -100))
    out.loss.backward()
    assert out.loss.item() == 0.0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_a_sequence_of_padding_only_gives_numbers(name: str) -> None:
    ids, mask = batch()
    mask[1] = 0
    for training in (True, False):
        arch = small(name, attention_probs_dropout_prob=0.1)
        assert build(TinyBertForMaskedLM, arch).train(training)(ids, mask).logits.isfinite().all()


def test_too_many_positions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"25 positions, but the model has 24"):
        build(TinyBertForMaskedLM, small("bert6"))(torch.ones(1, 25, dtype=torch.long))


@pytest.mark.parametrize("head", [TinyBertForMaskedLM, TinyBertForSequenceClassification])
def test_initialisation_is_berts_and_follows_the_seed(head: type, name: str) -> None:
    def fresh(seed: int) -> torch.nn.Module:
        torch.manual_seed(seed)
        return head(config_of(small(name, head_size=16)))

    first, same, other = fresh(0), fresh(0), fresh(1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), same.parameters(), strict=True))
    words = first.bert.embeddings.word_embeddings.weight
    assert not torch.equal(words, other.bert.embeddings.word_embeddings.weight)
    assert not words[PAD].any()
    assert words[CLS].any()
    for key, parameter in first.named_parameters():
        if key.endswith("bias"):
            assert not parameter.any(), key
        elif "LayerNorm" in key or "norm" in key:
            assert (parameter == 1).all(), key
        elif "conv" not in key:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.15), key


@pytest.mark.parametrize("head", [TinyBertForMaskedLM, TinyBertForSequenceClassification])
def test_a_frozen_cls_embedding_never_learns(head: type) -> None:
    torch.manual_seed(0)
    model = head(config_of(small("bert1b", freeze_cls_embedding=True)))
    words = model.bert.embeddings.word_embeddings.weight
    assert not words[CLS].any()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    ids, mask = batch()
    labels = mlm_labels(ids, mask) if head is TinyBertForMaskedLM else torch.tensor([0, 1, 2])
    for _ in range(2):
        optimizer.zero_grad()
        model(ids, mask, labels=labels).loss.backward()
        assert not words.grad[CLS].any()
        assert words.grad[ids[0, 1]].any()
        optimizer.step()
    assert not words[CLS].any()


def test_attention_dropout_keeps_the_expectation() -> None:
    """The written-out attention with dropout agrees with torch's on average, and exactly as the rate goes to zero."""
    ids, mask = batch()
    plain = build(TinyBertForMaskedLM, small("bert1a"))(ids, mask).logits
    nearly = build(TinyBertForMaskedLM, small("bert1a", attention_probs_dropout_prob=1e-9))(ids, mask).logits
    torch.testing.assert_close(nearly, plain, atol=2e-5, rtol=1e-4)


def test_bfloat16_autocast_stays_close(name: str) -> None:
    model = build(TinyBertForMaskedLM, small(name, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1))
    ids, mask = batch()
    with torch.autocast("cpu", torch.bfloat16):
        model(ids, mask, labels=mlm_labels(ids, mask)).loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    model.eval()
    labels = mlm_labels(ids, mask)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        low = model(ids, mask, labels=labels).loss
    with torch.no_grad():
        assert low.item() == pytest.approx(model(ids, mask, labels=labels).loss.item(), rel=0.05)
