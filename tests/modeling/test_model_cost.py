from __future__ import annotations

import pytest
import torch
from tiny_models import LABELS, POSITIONS, VOCAB, batch, build, mlm_labels, small
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

from tlm.modeling import (
    TinyBertConfig,
    TinyBertForMaskedLM,
    TinyBertForSequenceClassification,
    TinyGptForCausalLM,
    TinyGptForSequenceClassification,
)
from tlm.modeling.cost import (
    classifier_flops,
    count_parameters,
    expected_parameters,
    language_model_flops,
    parameter_counts,
)
from tlm.modeling.families.base import family_of
from tlm.study.architecture import variant

PAPER_VOCAB, PAPER_POSITIONS = 30_522, 128


def paper_config(name: str) -> TinyBertConfig:
    return TinyBertConfig.from_architecture(
        variant(name),
        vocab_size=PAPER_VOCAB,
        max_position_embeddings=PAPER_POSITIONS,
        pad_token_id=0,
        cls_token_id=101,
        num_labels=64,
    )


def test_parameters_at_reduced_width(name: str) -> None:
    arch = small(name)
    sizes = {"vocab_size": VOCAB, "max_position_embeddings": POSITIONS}
    assert count_parameters(build(TinyBertForMaskedLM, arch)) == expected_parameters(arch, **sizes)
    classifier = build(TinyBertForSequenceClassification, arch)
    assert count_parameters(classifier) == expected_parameters(arch, **sizes, num_labels=LABELS)


def test_parameters_at_paper_scale(name: str) -> None:
    sizes = {"vocab_size": PAPER_VOCAB, "max_position_embeddings": PAPER_POSITIONS}
    with torch.device("meta"):
        mlm = TinyBertForMaskedLM(paper_config(name))
        classifier = TinyBertForSequenceClassification(paper_config(name))
    assert count_parameters(mlm) == expected_parameters(variant(name), **sizes)
    assert count_parameters(classifier) == expected_parameters(variant(name), **sizes, num_labels=64)


def test_bert6_has_the_parameters_of_transformers_bert() -> None:
    config = BertConfig(num_hidden_layers=6, max_position_embeddings=PAPER_POSITIONS, num_labels=64)
    with torch.device("meta"):
        for ours, theirs in (
            (TinyBertForMaskedLM, BertForMaskedLM),
            (TinyBertForSequenceClassification, BertForSequenceClassification),
        ):
            mine, reference = ours(paper_config("bert6")), theirs(config)
            assert mine.config.hidden_size == 768
            assert {n: p.shape for n, p in mine.named_parameters()} == {
                n: p.shape for n, p in reference.named_parameters()
            }
            assert count_parameters(mine) == count_parameters(reference)


def test_flops_are_those_torch_counts(name: str) -> None:
    arch = small(name, conv_over_padding=True)  # no strip, which is rounded up
    ids, mask = batch(lengths=(12,))
    labels = mlm_labels(ids, mask)
    with FlopCounterMode(display=False) as counter:
        build(TinyBertForSequenceClassification, arch)(ids, mask)
    assert counter.get_total_flops() == classifier_flops(arch, 12, LABELS)
    with FlopCounterMode(display=False) as counter:
        build(TinyBertForMaskedLM, arch)(ids, mask, labels=labels)
    masked = int((labels != -100).sum())
    assert counter.get_total_flops() == language_model_flops(arch, 12, masked, VOCAB)


@pytest.mark.parametrize("name", ["gpt6", "gpt1"])
def test_a_decoder_has_the_parameters_and_flops_that_are_counted(name: str) -> None:
    arch = small(name)
    sizes = {"vocab_size": VOCAB, "max_position_embeddings": POSITIONS}
    model, classifier = build(TinyGptForCausalLM, arch), build(TinyGptForSequenceClassification, arch)
    assert count_parameters(model) == expected_parameters(arch, **sizes)
    assert count_parameters(classifier) == expected_parameters(arch, **sizes, num_labels=LABELS)
    ids, mask = batch(lengths=(12,))
    with FlopCounterMode(display=False) as counter:
        classifier(ids, mask)
    assert counter.get_total_flops() == classifier_flops(arch, 12, LABELS)
    with FlopCounterMode(display=False) as counter:
        model(ids, mask, labels=ids)
    assert counter.get_total_flops() == language_model_flops(arch, 12, 11, VOCAB)


def test_gpt6_has_the_parameters_of_transformers_gpt2() -> None:
    with torch.device("meta"):
        theirs = GPT2LMHeadModel(GPT2Config(vocab_size=PAPER_VOCAB, n_positions=PAPER_POSITIONS, n_layer=6))
    sizes = {"vocab_size": PAPER_VOCAB, "max_position_embeddings": PAPER_POSITIONS}
    assert count_parameters(theirs) == expected_parameters(variant("gpt6"), **sizes)


CORE = (".conv_front.", ".encoder.", "bert.LayerNorm.", ".h.", ".ln_f.", ".layers.", "model.norm.")
LOOKED_UP = ("position_embeddings", "token_type_embeddings", "wpe")
"""Tables of which a token reads a row."""


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bert6", {}),
        ("bert1b", {"norm_position": "pre", "norm": "rms_norm", "position_embedding_type": "rope", "bias": False}),
        ("gpt6", {}),
        ("micro", {"tie_embeddings": False}),
        ("micro", {"sharing": {"what": "block", "keep": 1, "lora_rank": 2}}),
    ],
)
def test_parameters_are_embeddings_and_head_or_core_and_a_token_uses_those_it_is_multiplied_with(
    name: str, options: dict[str, object]
) -> None:
    arch = small(name, options=options)
    model = build(family_of(arch).language_model, arch)
    counts = parameter_counts(arch, vocab_size=VOCAB, max_position_embeddings=POSITIONS)
    sizes = {key: parameter.numel() for key, parameter in model.named_parameters()}
    assert counts.stored == sum(sizes.values()) == counts.core + counts.embeddings_and_head
    assert counts.core == sum(size for key, size in sizes.items() if any(part in key for part in CORE))
    every = {key: parameter.numel() for key, parameter in model.named_parameters(remove_duplicate=False)}
    tables = [key for key in every if any(table in key for table in LOOKED_UP)]
    words = ["model.embed_tokens.weight"] if name == "micro" else ["transformer.wte.weight"] if name == "gpt6" else []
    words += ["cls.predictions.decoder.weight", "cls.predictions.decoder.bias"] if "bert" in name else []
    assert counts.used == sum(size for key, size in every.items() if key not in {*tables, *words})
