"""Exchange with transformers' own GPT-2: the same weights and logits, names and all, its Conv1D weights transposed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel, PreTrainedModel

from tlm.errors import UserError
from tlm.modeling.configuration import TinyGptConfig
from tlm.modeling.decoder_heads import TinyGptForCausalLM, TinyGptForSequenceClassification

_FIELDS = {
    "vocab_size": "vocab_size",
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
    "attention_probs_dropout_prob": "attn_pdrop",
    "hidden_dropout_prob": "resid_pdrop",
    "max_position_embeddings": "n_positions",
    "initializer_range": "initializer_range",
    "layer_norm_eps": "layer_norm_epsilon",
    "pad_token_id": "pad_token_id",
    "bos_token_id": "bos_token_id",
    "num_labels": "num_labels",
}
"""Fields of `TinyGptConfig` and the names that `GPT2Config` has for them."""

_PAIRS: dict[type[PreTrainedModel], type[PreTrainedModel]] = {
    TinyGptForCausalLM: GPT2LMHeadModel,
    TinyGptForSequenceClassification: GPT2ForSequenceClassification,
}


def to_gpt2(model: TinyGptForCausalLM | TinyGptForSequenceClassification) -> PreTrainedModel:
    """A GPT2LMHeadModel or GPT2ForSequenceClassification with the same weights and logits, in eval mode.

    transformers' classifier finds the last token by `pad_token_id`, ours by the attention mask.
    """
    fields = {theirs: getattr(model.config, ours) for ours, theirs in _FIELDS.items()}
    config = GPT2Config(**fields, embd_pdrop=fields["resid_pdrop"], eos_token_id=None)
    return _copy(model, _PAIRS[type(model)], config)


def from_gpt2(model: GPT2LMHeadModel | GPT2ForSequenceClassification) -> PreTrainedModel:
    """Our model with the same weights and logits, in eval mode. UserError if GPT-2 is set up in a way we lack."""
    config: Any = model.config
    expected = {
        "activation_function": "gelu_new",
        "add_cross_attention": False,
        "embd_pdrop": config.resid_pdrop,
        "scale_attn_by_inverse_layer_idx": False,
        "scale_attn_weights": True,
        "tie_word_embeddings": True,
    }
    for field, value in expected.items():
        if getattr(config, field) != value:
            raise UserError(
                f"GPT-2 with {field}={getattr(config, field)!r} has no counterpart here.", f"Only {value!r} has."
            )
    fields = {ours: getattr(config, theirs) for ours, theirs in _FIELDS.items()}
    fields["intermediate_size"] = config.n_inner or 4 * config.n_embd
    target = next(ours for ours, theirs in _PAIRS.items() if theirs is type(model))
    return _copy(model, target, TinyGptConfig(**fields))


def _copy(model: PreTrainedModel, target: type[PreTrainedModel], config: Any) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):  # an initialisation that is thrown away must not move the seed
        copy: PreTrainedModel = target(config)
    copy.load_state_dict({name: _turned(name, weight) for name, weight in model.state_dict().items()}, strict=True)
    copy.eval()
    return copy


def _turned(name: str, weight: Tensor) -> Tensor:
    """(in, out) ↔ (out, in) for what is a Conv1D there."""
    return weight.t() if ".c_" in name and name.endswith(".weight") else weight
