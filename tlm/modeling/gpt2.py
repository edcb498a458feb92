"""Exchange with transformers' own GPT-2: the same weights and logits, names and all, its Conv1D weights transposed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields as fields_of
from typing import Any

from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    PreTrainedConfig,
    PreTrainedModel,
)

from tlm.errors import UserError
from tlm.modeling.configuration import TinyGptConfig
from tlm.modeling.decoder_heads import TinyGptForCausalLM, TinyGptForSequenceClassification
from tlm.modeling.form import Form, with_weights

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
    "id2label": "id2label",
    "label2id": "label2id",
}
"""Fields of `TinyGptConfig` and the names that `GPT2Config` has for them."""

_ALIKE = {
    "activation_function": "gelu_new",
    "add_cross_attention": False,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "tie_word_embeddings": True,
}
"""How every model of ours is set up, so that a GPT-2 must be."""


class Gpt2Form(Form):
    """`config.json` and weights of transformers' GPT-2."""

    model_type = "gpt2"
    heads = {  # noqa: RUF012  # ClassVar in the base
        TinyGptForCausalLM: GPT2LMHeadModel,
        TinyGptForSequenceClassification: GPT2ForSequenceClassification,
    }

    def has(self, config: PreTrainedConfig) -> bool:
        plain = TinyGptConfig()
        own = {field.name for field in fields_of(config)} - {field.name for field in fields_of(GPT2Config)}  # type: ignore[arg-type]
        return all(getattr(config, name) == getattr(plain, name) for name in own - _FIELDS.keys())

    def written(self, config: PreTrainedConfig) -> dict[str, Any]:
        return self.as_json(_theirs(config))

    def read(self, fields: Mapping[str, Any]) -> TinyGptConfig:
        return _ours(GPT2Config.from_dict({k: v for k, v in fields.items() if k not in self.added}))

    def turned(self, name: str, weight: Tensor) -> Tensor:
        return _turned(name, weight)


def to_gpt2(model: TinyGptForCausalLM | TinyGptForSequenceClassification) -> PreTrainedModel:
    """A GPT2LMHeadModel or GPT2ForSequenceClassification with the same weights and logits, in eval mode.

    transformers' classifier finds the last token by `pad_token_id`, ours by the attention mask.
    """
    return with_weights(Gpt2Form.heads[type(model)], _theirs(model.config), _weights(model))


def from_gpt2(model: GPT2LMHeadModel | GPT2ForSequenceClassification) -> PreTrainedModel:
    """Our model with the same weights and logits, in eval mode. UserError if GPT-2 is set up in a way we lack."""
    target = next(ours for ours, theirs in Gpt2Form.heads.items() if theirs is type(model))
    return with_weights(target, _ours(model.config), _weights(model))


def _theirs(config: Any) -> GPT2Config:
    fields = {theirs: getattr(config, ours) for ours, theirs in _FIELDS.items()}
    return GPT2Config(**fields, embd_pdrop=fields["resid_pdrop"], eos_token_id=None)


def _ours(config: Any) -> TinyGptConfig:
    for field, value in {**_ALIKE, "embd_pdrop": config.resid_pdrop}.items():
        if getattr(config, field) != value:
            raise UserError(
                f"GPT-2 with {field}={getattr(config, field)!r} has no counterpart here.", f"Only {value!r} has."
            )
    fields = {ours: getattr(config, theirs) for ours, theirs in _FIELDS.items()}
    fields["intermediate_size"] = config.n_inner or 4 * config.n_embd
    return TinyGptConfig(**fields)


def _weights(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: _turned(name, weight) for name, weight in model.state_dict().items()}


def _turned(name: str, weight: Tensor) -> Tensor:
    """(in, out) ↔ (out, in) for what is a Conv1D there."""
    return weight.t() if ".c_" in name and name.endswith(".weight") else weight
