"""What weights begin as: as a study says in every linear map and embedding, and untouched where it says nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers import mini_study
from pydantic import ValidationError
from tiny_models import CLS, PAD, VOCAB, config_of, small
from torch import nn

from tlm.modeling import (
    TinyBertForMaskedLM,
    TinyBertForSequenceClassification,
    TinyGptForCausalLM,
    TinyGptForSequenceClassification,
)
from tlm.modeling.initialization import initialize, set_output_bias
from tlm.study.initialization import Initialization

WIDE = {"head_size": 32, "num_hidden_layers": 2}
MODELS = [
    (TinyBertForMaskedLM, small("bert6", **WIDE)),
    (TinyBertForSequenceClassification, small("bert1b", **WIDE, freeze_cls_embedding=True)),
    (TinyGptForCausalLM, small("gpt6", **WIDE)),
    (TinyGptForSequenceClassification, small("gpt1", **WIDE)),
]


def new(model_class: Any, arch: Any) -> Any:
    torch.manual_seed(0)
    return model_class(config_of(arch))


@pytest.mark.parametrize(("model_class", "arch"), MODELS)
def test_every_matrix_and_embedding_has_the_spread_asked_for_and_nothing_else_moves(
    model_class: Any, arch: Any
) -> None:
    before, after = new(model_class, arch), new(model_class, arch)
    initialize(after, Initialization(matrices="fan_in", embedding_std=0.5))
    embedded = {id(m.weight) for m in after.modules() if isinstance(m, nn.Embedding)}
    drawn = set(embedded)
    for name, module in after.named_modules():
        if isinstance(module, nn.Linear) and id(module.weight) not in embedded:
            drawn.add(id(module.weight))
            few = module.weight.numel() < 10_000
            assert module.weight.std().item() == pytest.approx(module.in_features**-0.5, rel=0.2 if few else 0.03), name
    words = after.get_input_embeddings().weight
    zero = {PAD, CLS} if arch.freeze_cls_embedding else {PAD} if arch.kind == "encoder" else set()
    assert set(torch.nonzero(words.abs().sum(dim=1) == 0).flatten().tolist()) == zero
    assert words[[row for row in range(VOCAB) if row not in zero]].std().item() == pytest.approx(0.5, rel=0.05)
    was = dict(before.named_parameters())
    for name, parameter in after.named_parameters():
        assert torch.equal(parameter, was[name]) != (id(parameter) in drawn), name
    if after.get_output_embeddings() is not None:
        assert after.get_output_embeddings().weight is words


@pytest.mark.parametrize(("model_class", "arch"), MODELS)
def test_the_default_draws_nothing(model_class: Any, arch: Any) -> None:
    before, after = new(model_class, arch), new(model_class, arch)
    state = torch.get_rng_state()
    initialize(after, Initialization())
    assert torch.equal(state, torch.get_rng_state())
    was = dict(before.named_parameters())
    assert all(torch.equal(parameter, was[name]) for name, parameter in after.named_parameters())


def test_the_output_bias_is_the_log_of_the_smoothed_frequencies_and_the_first_prediction_follows_it() -> None:
    model = new(TinyBertForMaskedLM, small("bert1"))
    counts = np.arange(VOCAB) * 10
    set_output_bias(model, counts)
    expected = torch.log(torch.tensor((counts + 1) / (counts + 1).sum()))
    bias = model.cls["predictions"].bias
    torch.testing.assert_close(bias.double(), expected)
    assert bias is model.get_output_embeddings().bias
    assert math.isfinite(bias.min().item())
    logits = model(torch.tensor([[CLS, 5, 6, 3]])).logits[0, 1]
    assert (logits.softmax(0) - bias.softmax(0)).abs().max() < 0.02


def test_a_model_without_an_output_bias_is_refused_before_any_work() -> None:
    gpt = {"name": "one", "kind": "decoder", "num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2}
    problem = r"pretrain.output_bias: log_unigram, but models of kind decoder \(one\) have no bias"
    with pytest.raises(ValidationError, match=problem):
        mini_study(architectures__0={**gpt, "intermediate_size": 32}, pretrain__output_bias="log_unigram")
