"""Our conv-free models and transformers' BERT: same parameter names, same logits, in both directions."""

from __future__ import annotations

import pytest
import torch
from tiny_models import CLS, LABELS, POSITIONS, VOCAB, batch, build, mlm_labels, small
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

from tlm.errors import UserError
from tlm.modeling import TinyBertForMaskedLM, TinyBertForSequenceClassification
from tlm.modeling import bert as ic

WIDTHS = [("bert6", 4), ("bert6", 8), ("bert1a", 2), ("bert1a", 5)]


def transformers_bert(model_class: type, hidden: int, heads: int, layers: int) -> torch.nn.Module:
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=hidden,
        num_attention_heads=heads,
        num_hidden_layers=layers,
        intermediate_size=4 * hidden,
        max_position_embeddings=POSITIONS,
        num_labels=LABELS,
    )
    return model_class(config).eval()


@pytest.mark.parametrize(("name", "head_size"), WIDTHS)
def test_mlm_to_transformers(name: str, head_size: int) -> None:
    ours = build(TinyBertForMaskedLM, small(name, head_size=head_size)).eval()
    theirs = ic.to_transformers_mlm(ours)
    ids, mask = batch()
    with torch.no_grad():
        torch.testing.assert_close(ours(ids, mask).logits, theirs(ids, mask).logits, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours(ids).logits, theirs(ids).logits, atol=1e-5, rtol=1e-5)
        types = torch.arange(ids.numel()).view_as(ids) % 2
        torch.testing.assert_close(
            ours(ids, mask, token_type_ids=types).logits,
            theirs(ids, mask, token_type_ids=types).logits,
            atol=1e-5,
            rtol=1e-5,
        )


@pytest.mark.parametrize(("name", "head_size"), WIDTHS)
def test_classifier_to_transformers(name: str, head_size: int) -> None:
    ours = build(TinyBertForSequenceClassification, small(name, head_size=head_size)).eval()
    theirs = ic.to_transformers_classifier(ours)
    ids, mask = batch()
    labels = torch.tensor([0, 4, 2])
    with torch.no_grad():
        mine, reference = ours(ids, mask, labels=labels), theirs(ids, mask, labels=labels)
    torch.testing.assert_close(mine.logits, reference.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(mine.loss, reference.loss, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("hidden", "heads", "layers"), [(16, 4, 2), (24, 2, 1), (40, 5, 3)])
def test_from_transformers(hidden: int, heads: int, layers: int) -> None:
    ids, mask = batch()
    mlm = transformers_bert(BertForMaskedLM, hidden, heads, layers)
    classifier = transformers_bert(BertForSequenceClassification, hidden, heads, layers)
    with torch.no_grad():
        for theirs, ours in (
            (mlm, ic.from_transformers_mlm(mlm, cls_token_id=CLS)),
            (classifier, ic.from_transformers_classifier(classifier)),
        ):
            torch.testing.assert_close(ours(ids, mask).logits, theirs(ids, mask).logits, atol=1e-5, rtol=1e-5)


def test_loss_and_gradients_are_those_of_transformers() -> None:
    ours = build(TinyBertForMaskedLM, small("bert6", num_hidden_layers=2))
    theirs = ic.to_transformers_mlm(ours).train()
    ids, mask = batch()
    labels = mlm_labels(ids, mask)
    mine, reference = ours(ids, mask, labels=labels).loss, theirs(ids, mask, labels=labels).loss
    torch.testing.assert_close(mine, reference, atol=1e-5, rtol=1e-5)
    mine.backward()
    reference.backward()
    gradients = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name].grad, atol=1e-5, rtol=1e-4, msg=name)


def test_conversion_does_not_move_the_seed() -> None:
    ours = build(TinyBertForMaskedLM, small("bert6"))
    before = torch.get_rng_state()
    ic.from_transformers_mlm(ic.to_transformers_mlm(ours))
    assert torch.equal(before, torch.get_rng_state())


def test_what_transformers_or_we_lack_is_refused() -> None:
    with pytest.raises(UserError, match="conv weights would be lost"):
        ic.to_transformers_mlm(build(TinyBertForMaskedLM, small("bert1b")))
    with pytest.raises(UserError, match="conv weights would be lost"):
        ic.to_transformers_classifier(build(TinyBertForSequenceClassification, small("bert1e")))
    theirs = transformers_bert(BertForMaskedLM, 16, 4, 1)
    theirs.config.hidden_act = "relu"
    with pytest.raises(UserError, match="hidden_act='relu'"):
        ic.from_transformers_mlm(theirs)
