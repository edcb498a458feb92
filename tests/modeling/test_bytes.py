"""Models of bytes: exact probabilities of any text, in batches of any layout, and the parameters of arXiv 2405.14159."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tlm.data.byte_patches import EOP, PAD, BytePatches
from tlm.data.ragged import Ragged
from tlm.evaluation.likelihood import log_likelihoods
from tlm.modeling import TinyByteForCausalLM, TinyByteForSequenceClassification
from tlm.modeling.cost import claims, count_parameters, expected_parameters, parameter_counts
from tlm.modeling.families.base import family_of
from tlm.modeling.interchange import load_encoder_into_classifier, load_strict, save
from tlm.modeling.patches import packer
from tlm.study.architecture import Architecture, variant
from tlm.training.masking import next_token_inputs

HEADS = ("autoregressive", "parallel")
P, LENGTH = 5, 64
TOKENIZER = BytePatches(P)
TEXTS = ["hello wörld", "a", "", "x y zz", "hello wörld, and more", "q" * 9, "\0 👩‍👧"]


def arch_of(head: str, **byte: Any) -> Architecture:
    """As small as may be; dropout is in its configuration, as the variants have it."""
    byte = {"width": 16, "num_attention_heads": 2, "patch_bytes": P, "head": head, **byte}
    return variant("byte-micro", head_size=8, num_hidden_layers=2, options={"byte": byte})


def build(arch: Architecture, labels: int | None = None) -> Any:
    """A model whose every parameter is far from its initial value, in eval mode."""
    torch.manual_seed(0)
    family = family_of(arch)
    config = family.configure(arch, TOKENIZER.vocabulary, LENGTH, labels)
    model: Any = (family.language_model if labels is None else family.classifier)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(scope="module", params=HEADS)
def model(request: pytest.FixtureRequest) -> Any:
    return build(arch_of(request.param))


@torch.no_grad()
def following(model: Any, ids: list[int]) -> Tensor:
    """log p (V,) of what follows ids, with transformers' interface."""
    return torch.log_softmax(model(input_ids=torch.tensor([[PAD, *ids]])).logits[0, -1], dim=-1)


def by_definition(model: Any, ids: list[int]) -> float:
    """One id at a time, each with nothing behind it."""
    return sum(float(following(model, ids[:place])[token]) for place, token in enumerate(ids))


def test_the_probability_of_a_text_is_that_of_its_bytes_each_given_only_those_before(model: Any) -> None:
    texts = TOKENIZER.encode(TEXTS)
    found = log_likelihoods(model, texts, np.zeros(len(texts), dtype=np.int64), TOKENIZER.vocabulary, max_length=LENGTH)
    expected = [by_definition(model, texts[i].tolist()) if text else np.nan for i, text in enumerate(TEXTS)]
    assert found == pytest.approx(np.array(expected), abs=1e-4, nan_ok=True)


def test_a_text_that_goes_on_changes_nothing_before(model: Any) -> None:
    ids = TOKENIZER.encode(["the ship saw"])[0].tolist()
    for more in ([], [32, 97], TOKENIZER.encode([" a zebra"])[0].tolist()):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[PAD, *ids, *more]])).logits[0, : len(ids)]
        reference = torch.stack([following(model, ids[:place]) for place in range(len(ids))])
        torch.testing.assert_close(torch.log_softmax(logits, dim=-1), reference, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_the_probabilities_of_all_patches_that_can_follow_sum_to_one(head: str) -> None:
    """P = 3: nothing, one byte, two bytes, and then the end. Of the first byte all, of the second those after one first."""
    small = build(arch_of(head, patch_bytes=3))
    before = [104, EOP]
    first = following(small, before).exp()
    assert float(first.sum()) == pytest.approx(1, abs=1e-5)
    second = following(small, [*before, 97]).exp()
    assert float(second.sum()) == pytest.approx(1, abs=1e-5)
    full = following(small, [*before, 97, 98]).exp()
    assert float(full[EOP]) == 1  # and so the sum over second bytes, and over all patches, is that of what was asked
    whole = Ragged.from_lists([[*before, a, EOP] for a in range(256)])
    log_p = log_likelihoods(small, whole, np.full(256, 2), TOKENIZER.vocabulary, max_length=LENGTH)
    longer = sum(float(first[a]) * (1 - float(following(small, [*before, a]).exp()[EOP])) for a in range(0, 256, 51))
    shorter = sum(float(np.exp(log_p[a])) for a in range(0, 256, 51))
    assert longer + shorter == pytest.approx(sum(float(first[a]) for a in range(0, 256, 51)), abs=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_loss_and_gradients_do_not_depend_on_how_texts_and_patches_lie(head: str) -> None:
    texts = TOKENIZER.encode(TEXTS)
    found = []
    for costs, order in (((0, 0), slice(None)), ((10**6, 10**6), slice(None)), ((3, 40), slice(None, None, -1))):
        model = build(arch_of(head))
        pack = packer(16, 32, "cpu")
        pack.keywords["costs"] = costs
        batch = pack(texts, np.arange(len(texts))[order], TOKENIZER.vocabulary, LENGTH)
        inputs = next_token_inputs(batch)
        assert len(inputs["labels_N"]) == len(texts.ids) + len(texts)
        loss = model.loss(**inputs)
        loss.backward()
        found.append((loss.detach(), [parameter.grad for parameter in model.parameters()]))
        ids, mask = torch.full((len(texts), 40), PAD), torch.zeros((len(texts), 40), dtype=torch.long)
        for row, text in enumerate(TEXTS):
            whole = [*TOKENIZER.encode([text])[0].tolist(), EOP]
            ids[row, 1 : len(whole) + 1], mask[row, : len(whole) + 1] = torch.tensor(whole), 1
        labels = torch.where(mask.bool(), ids, -100)
        with torch.no_grad():
            torch.testing.assert_close(model(ids, mask, labels=labels).loss, loss.detach())
    for loss, gradients in found[1:]:
        torch.testing.assert_close(loss, found[0][0])
        for mine, reference in zip(gradients, found[0][1], strict=True):
            torch.testing.assert_close(mine, reference, atol=1e-5, rtol=1e-4)


def test_a_patch_too_long_and_what_is_no_byte_are_refused(model: Any) -> None:
    with pytest.raises(ValueError, match=f"a patch of {P + 1} ids, but the model's have {P}"):
        following(model, [97] * P)
    with pytest.raises(ValueError, match="neither a byte nor the end of a patch"):
        following(model, [97, PAD, 98])
    with pytest.raises(ValueError, match="neither a byte nor the end of a patch"):
        following(model, [97, -1])


@pytest.mark.parametrize("head", HEADS)
def test_a_saved_model_is_the_same_and_gives_a_classifier_its_core(head: str, tmp_path: Path) -> None:
    model = build(arch_of(head))
    save(model, tmp_path)
    again = load_strict(TinyByteForCausalLM, tmp_path)
    assert torch.equal(following(again, [97, 98]), following(model, [97, 98]))
    classifier: TinyByteForSequenceClassification = build(arch_of(head), labels=3)
    load_encoder_into_classifier(classifier, tmp_path)
    own = classifier.state_dict()
    assert all(torch.equal(own[k], v) for k, v in model.state_dict().items() if k.startswith("model."))
    with torch.no_grad():  # a text alone, and beside others in a batch
        batch = packer(16, 32, "cpu")(TOKENIZER.encode(TEXTS), np.arange(7), TOKENIZER.vocabulary, LENGTH)
        together = classifier.logits(batch.ids_R, batch.layout)[np.argsort(batch.order_B)]
        for text, logits in zip(TEXTS, together, strict=True):
            ids = torch.tensor([[PAD, *TOKENIZER.encode([text])[0].tolist(), EOP]])
            torch.testing.assert_close(classifier(ids).logits[0], logits, atol=1e-5, rtol=1e-4)


# --- parameters and operations ---

SHAPES = [
    {"head": "autoregressive"},
    {"head": "parallel", "encoder_layers": 0, "decoder_layers": 1},
    {"head": "autoregressive", "encoder_layers": 3, "widens": True},
]


@pytest.mark.parametrize("byte", SHAPES)
def test_parameters_are_counted_without_a_model(byte: dict[str, Any]) -> None:
    arch = arch_of(**byte)
    sizes = {"vocab_size": 258, "max_position_embeddings": LENGTH}
    model = build(arch)
    assert count_parameters(model) == expected_parameters(arch, **sizes)
    assert count_parameters(build(arch, labels=3)) == expected_parameters(arch, **sizes, num_labels=3)
    outside = ("model.encoder.", "head.")
    counted = sum(p.numel() for name, p in model.named_parameters() if name.startswith(outside))
    counts = parameter_counts(arch, **sizes)
    assert counts.embeddings_and_head == counted
    tables = ("model.encoder.bytes.", "model.encoder.positions.", "head.positions.", "model.begin")
    read = sum(p.numel() for name, p in model.named_parameters() if name.startswith(tables))
    assert counts.used == counts.stored - read
    assert expected_parameters(model.config, **sizes) == counts.stored


def test_the_papers_shapes_have_its_parameters_and_its_shares_and_it_is_said_of_what() -> None:
    arch = variant("stlm-byte")
    counts = parameter_counts(arch, vocab_size=258, max_position_embeddings=512)
    assert counts.embeddings_and_head == 2_560_768
    [claim] = [*claims(arch), *claims(variant("micro"))]
    assert "90.05 % fewer than a tied table of 50,257 tokens and 95.02 % fewer than an untied one" in claim
    assert "shares of embeddings and head, not of the model: the whole has 41.46 % fewer" in claim
    later = {**arch.options.model_dump()["byte"], "encoder_layers": 4, "decoder_layers": 7}
    later_counts = parameter_counts(
        variant("stlm-byte", options={"byte": later}), vocab_size=258, max_position_embeddings=512
    )
    assert round(100 * (1 - later_counts.embeddings_and_head / (50_257 * 512)), 1) == 80.1


@pytest.mark.parametrize("byte", SHAPES)
def test_operations_are_those_of_the_products(byte: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tlm.modeling.families.bytes.IDS_OF_A_PATCH", float(P))
    monkeypatch.setattr("tlm.modeling.patches.ROW_MULTIPLE", 1)
    arch = arch_of(**byte)
    text = Ragged.from_lists([[*([97] * (P - 1)), EOP] * 6 + [98] * (P - 1)])  # its end fills the last patch
    batch = packer(16, 32, "cpu")(text, np.arange(1), TOKENIZER.vocabulary, LENGTH)
    inputs = next_token_inputs(batch)
    model = build(arch)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.logits(**{name: value for name, value in inputs.items() if name != "labels_N"})
    length = len(text.ids) + 2
    counted = family_of(arch).language_model_flops(arch, length, length - 1, 258)
    assert counter.get_total_flops() == counted


@pytest.mark.parametrize(
    ("byte", "problem"),
    [
        ({"num_attention_heads": 3}, "byte.num_attention_heads=3 does not divide byte.width=16"),
        ({"widens": True, "encoder_layers": 0}, "byte.widens"),
        ({"patch_bytes": 1}, "patch_bytes"),
        ({"head": "both"}, "head"),
        ({"vocab_size": 30_522}, "vocab_size"),
    ],
)
def test_shapes_that_cannot_be_are_refused(byte: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        arch_of(**{"head": "parallel", **byte})


def test_no_table_of_tokens_is_tied_or_untied() -> None:
    with pytest.raises(ValueError, match="tie_embeddings"):
        variant("byte-micro", options={"tie_embeddings": False})
