"""Decoders of the Llama kind are transformers' Llama, both ways; those of arXiv 2405.14159 have its parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import CLS, LABELS, PAD, POSITIONS, VOCAB, batch, build, config_of, small
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
)

from tlm.errors import UserError
from tlm.modeling import TinyLlamaForCausalLM, TinyLlamaForSequenceClassification
from tlm.modeling.cost import classifier_flops, count_parameters, expected_parameters, language_model_flops
from tlm.modeling.interchange import load_encoder_into_classifier, load_strict, save
from tlm.modeling.llama_form import from_llama, to_llama
from tlm.study.architecture import Architecture, variant

HEADS = (TinyLlamaForCausalLM, TinyLlamaForSequenceClassification)
PLAIN: list[dict[str, Any]] = [{}, {"tie_embeddings": False, "bias": True, "num_key_value_heads": 1}]
"""Options with which a model is Llama's own."""
SHARED: list[dict[str, Any]] = [
    {"sharing": {"what": "ffn", "keep": 1}},
    {"sharing": {"what": "ffn+out_proj", "lora_rank": 3, "lora_alpha": 6.0}, "ffn": "gelu", "bias": True},
    {"sharing": {"what": "block", "lora_rank": 2}, "tie_embeddings": False},
    {"sharing": {"what": "block", "keep": 1}, "norm": "layer_norm", "bias": True},
]


def arch_of(options: dict[str, Any], **fields: Any) -> Architecture:
    return small("micro", options=options, **fields)


def logits(model: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(ids).logits
    return found


def greedy(model: Any, ids: Tensor, steps: int) -> Tensor:
    for _ in range(steps):
        ids = torch.cat([ids, logits(model, ids)[:, -1:].argmax(dim=-1)], dim=1)
    return ids


# --- transformers' Llama ---


@pytest.mark.parametrize("options", PLAIN, ids=["plain", "untied, biases"])
def test_a_saved_model_is_llamas_with_the_same_logits_and_the_same_text(
    options: dict[str, Any], tmp_path: Path
) -> None:
    model = build(TinyLlamaForCausalLM, arch_of(options, hidden_dropout_prob=0.25)).eval()
    save(model, tmp_path)
    theirs, info = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert type(theirs) is LlamaForCausalLM
    assert not any(info.values())
    ids, _ = batch(lengths=(12, 12))
    torch.testing.assert_close(logits(model, ids), logits(theirs, ids), atol=1e-4, rtol=1e-4)
    written = theirs.generate(ids[:, :4], max_new_tokens=8, do_sample=False, pad_token_id=PAD)
    assert torch.equal(written, greedy(model, ids[:, :4], 8))
    again = load_strict(TinyLlamaForCausalLM, tmp_path)
    assert torch.equal(logits(again, ids), logits(model, ids))
    same = {"dtype": None, "_name_or_path": "", "architectures": None}
    assert again.config.to_dict() | same == model.config.to_dict() | same


@pytest.mark.parametrize("model_class", [LlamaForCausalLM, LlamaForSequenceClassification])
@pytest.mark.parametrize("tied", [True, False])
def test_a_stock_llama_comes_and_goes_unchanged(model_class: type, tied: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 44, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 8, "num_key_value_heads": 2, "max_position_embeddings": POSITIONS}
    theirs = model_class(
        LlamaConfig(**sizes, **heads, tie_word_embeddings=tied, pad_token_id=PAD, num_labels=LABELS)
    ).eval()
    theirs.save_pretrained(tmp_path)
    ours: Any = from_llama(theirs)
    read = load_strict(type(ours), tmp_path)
    ids, mask = batch()
    with torch.no_grad():
        mine, reference = ours(ids, mask).logits, theirs(ids, attention_mask=mask).logits
        assert torch.equal(read(ids, mask).logits, mine)
    kept = mask.bool() if mine.ndim == 3 else slice(None)
    torch.testing.assert_close(mine[kept], reference[kept], atol=1e-4, rtol=1e-4)
    again: Any = to_llama(ours)
    assert all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in theirs.state_dict().items())
    assert (again.config.bos_token_id, again.config.eos_token_id) == (1, 2)


def test_the_gradients_of_the_loss_are_llamas() -> None:
    ours = build(TinyLlamaForCausalLM, arch_of({}))
    theirs: Any = to_llama(ours)
    ids, mask = batch()
    labels = torch.where(mask.bool(), ids, -100)
    mine, reference = ours(ids, mask, labels=labels).loss, theirs(ids, attention_mask=mask, labels=labels).loss
    mine.backward()
    reference.backward()
    torch.testing.assert_close(mine, reference)
    gradients = dict(theirs.named_parameters())
    assert gradients.keys() == dict(ours.named_parameters()).keys()
    for key, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[key].grad, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_act", "gelu"),
        ("mlp_bias", True),
        ("head_dim", 16),
        ("rope_parameters", {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}),
    ],
)
def test_a_llama_that_we_cannot_be_is_refused(field: str, value: Any) -> None:
    theirs: Any = to_llama(build(TinyLlamaForCausalLM, arch_of({})))
    setattr(theirs.config, field, value)
    with pytest.raises(UserError, match=f"Llama with {field}="):
        from_llama(theirs)


# --- parameters ---


@pytest.mark.parametrize(
    ("name", "vocab_size", "parameters"),
    [
        ("stlm47", 50_257, 47_203_328),
        ("stlm56", 50_257, 55_888_896),
        ("stlm10", 9_984, 10_513_920),
        ("stlm50", 10_000, 39_735_808),
        ("stlm100", 20_032, 99_298_304),
        ("micro", 8_192, 1_836_160),
    ],
)
def test_the_variants_have_the_parameters_that_their_paper_and_its_code_have(
    name: str, vocab_size: int, parameters: int
) -> None:
    sizes = {"vocab_size": vocab_size, "max_position_embeddings": 512}
    assert expected_parameters(variant(name), **sizes) == parameters
    with torch.device("meta"):
        config = TinyLlamaForCausalLM.config_class.from_architecture(
            variant(name), **sizes, pad_token_id=PAD, cls_token_id=CLS
        )
        assert count_parameters(TinyLlamaForCausalLM(config)) == parameters


@pytest.mark.parametrize("options", [*PLAIN, *SHARED])
def test_parameters_and_flops_are_those_that_torch_counts(options: dict[str, Any]) -> None:
    arch, sizes = arch_of(options), {"vocab_size": VOCAB, "max_position_embeddings": POSITIONS}
    model, classifier = (build(head, arch).eval() for head in HEADS)
    for shape in (arch, model.config):
        assert count_parameters(model) == expected_parameters(shape, **sizes)
        assert count_parameters(classifier) == expected_parameters(shape, **sizes, num_labels=LABELS)
    ids, mask = batch(lengths=(12,))
    with FlopCounterMode(display=False) as counter:
        classifier(ids, mask)
    assert counter.get_total_flops() == classifier_flops(arch, 12, LABELS)
    with FlopCounterMode(display=False) as counter:
        model(ids, mask, labels=ids)
    assert counter.get_total_flops() == language_model_flops(arch, 12, 11, VOCAB)


def test_initialisation_is_llamas_and_follows_the_seed() -> None:
    def fresh(seed: int) -> Any:
        torch.manual_seed(seed)
        return TinyLlamaForCausalLM(config_of(arch_of(SHARED[2], head_size=32)))

    first, same, other = fresh(0), fresh(0), fresh(1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), same.parameters(), strict=True))
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)
    for key, parameter in first.named_parameters():
        if "norm" in key:
            assert (parameter == 1).all(), key
        elif "lora_B" in key:
            assert not parameter.any(), key
        elif "lora_A" not in key:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1), key


# --- weights in common ---


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("options", SHARED)
def test_what_layers_share_is_saved_once_and_written_out_for_llama(
    options: dict[str, Any], head: Any, tmp_path: Path
) -> None:
    model = build(head, arch_of(options)).eval()
    ids, _ = batch(lengths=(12, 12))
    save(model, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert sum(weight.numel() for weight in weights.values()) == count_parameters(model)
    again = load_strict(head, tmp_path)
    auto = AutoModelForCausalLM if head is HEADS[0] else AutoModelForSequenceClassification
    loaded, info = auto.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    for back in (again, loaded):
        assert count_parameters(back) == count_parameters(model)
        assert torch.equal(logits(back, ids), logits(model, ids))
    if "ffn" in options or "norm" in options:
        with pytest.raises(UserError, match="transformers' Llama has no (ffn='gelu'|norm='layer_norm')"):
            to_llama(model)
        return
    whole = to_llama(model)
    assert count_parameters(whole) == expected_parameters(
        arch_of({**options, "sharing": None}),
        vocab_size=VOCAB,
        max_position_embeddings=POSITIONS,
        num_labels=None if head is HEADS[0] else LABELS,
    )
    whole.save_pretrained(tmp_path / "llama")
    assert json.loads((tmp_path / "llama" / "config.json").read_text())["model_type"] == "llama"
    theirs = auto.from_pretrained(tmp_path / "llama").eval()
    torch.testing.assert_close(logits(theirs, ids), logits(model, ids), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("what", ["ffn", "ffn+out_proj", "block"])
def test_a_low_rank_part_of_zero_is_plain_sharing_bit_for_bit(what: str) -> None:
    plain = build(TinyLlamaForCausalLM, arch_of({"sharing": {"what": what}}))
    adapted = build(TinyLlamaForCausalLM, arch_of({"sharing": {"what": what, "lora_rank": 2}}))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.zero_()
    missing, unexpected = adapted.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert all("lora_" in name for name in missing)
    ids, mask = batch()
    losses = [model(ids, mask, labels=torch.where(mask.bool(), ids, -100)).loss for model in (plain, adapted)]
    assert torch.equal(*losses)
    for loss in losses:
        loss.backward()
    for name, parameter in plain.named_parameters():
        # Sums of gradients of the same terms, in another order.
        torch.testing.assert_close(parameter.grad, adapted.get_parameter(name).grad, atol=1e-6, rtol=1e-4)
    own = [parameter for name, parameter in adapted.named_parameters() if "lora_B" in name]
    assert all(parameter.grad.any() for parameter in own), "and it is learnt from the first step on"


def test_the_optimizer_and_clipping_see_a_shared_weight_once() -> None:
    """Decay without gradients shrinks every weight by the same factor; the norm of gradients is that of distinct ones."""
    from tlm.study.config import PretrainConfig

    for optimizer in ("adamw", "muon"):
        model = build(TinyLlamaForCausalLM, arch_of({"sharing": {"what": "block", "lora_rank": 2}}))
        before = {name: parameter.clone() for name, parameter in model.named_parameters()}
        config = PretrainConfig(steps=1, learning_rate=0.1, weight_decay=0.5, optimizer=optimizer)
        built = config.optimizer.build(model, config)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        built.step()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.detach(), before[name] * 0.95, msg=name)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)
        assert norm.item() == pytest.approx(count_parameters(model) ** 0.5)


@pytest.mark.parametrize("options", [PLAIN[1], SHARED[2]])
def test_a_classifier_starts_from_a_language_model_of_the_same_sharing(options: dict[str, Any], tmp_path: Path) -> None:
    pretrained = build(TinyLlamaForCausalLM, arch_of(options))
    save(pretrained, tmp_path)
    classifier = build(TinyLlamaForSequenceClassification, arch_of(options), seed=1)
    own = classifier.score.weight.clone()
    load_encoder_into_classifier(classifier, tmp_path)
    theirs = pretrained.state_dict()
    for key, tensor in classifier.state_dict().items():
        assert torch.equal(tensor, own if key == "score.weight" else theirs[key]), key
    if "sharing" in options:
        other = build(TinyLlamaForSequenceClassification, arch_of({**options, "sharing": None}))
        with pytest.raises(UserError, match="pre-trained with another architecture: sharing="):
            load_encoder_into_classifier(other, tmp_path)
