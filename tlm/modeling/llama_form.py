"""Exchange with transformers' own Llama: the same weights under the same names, and the same logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields as fields_of
from typing import Any

from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from tlm.errors import UserError
from tlm.modeling.configuration import TinyLlamaConfig
from tlm.modeling.decoder_heads import TinyLlamaForCausalLM, TinyLlamaForSequenceClassification
from tlm.modeling.form import Form, with_weights
from tlm.modeling.sharing import Adapted

_FIELDS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "num_key_value_heads": "num_key_value_heads",
    "intermediate_size": "intermediate_size",
    "attention_probs_dropout_prob": "attention_dropout",
    "max_position_embeddings": "max_position_embeddings",
    "initializer_range": "initializer_range",
    "layer_norm_eps": "rms_norm_eps",
    "bias": "attention_bias",
    "tie_word_embeddings": "tie_word_embeddings",
    "pad_token_id": "pad_token_id",
    "bos_token_id": "bos_token_id",
    "eos_token_id": "eos_token_id",
    "id2label": "id2label",
    "label2id": "label2id",
}
"""Fields of `TinyLlamaConfig` and the names that `LlamaConfig` has for them."""
_OWN = "hidden_dropout_prob"
"""Dropout of hidden states, which Llama does not have: it stands in `config.json` beside Llama's fields."""


class LlamaForm(Form):
    """`config.json` and weights of transformers' Llama."""

    model_type = "llama"
    heads = {  # noqa: RUF012  # ClassVar in the base
        TinyLlamaForCausalLM: LlamaForCausalLM,
        TinyLlamaForSequenceClassification: LlamaForSequenceClassification,
    }

    def has(self, config: PreTrainedConfig) -> bool:
        """All but models with weights in common (`to_llama` gives each layer its own), LayerNorm or GELU."""
        plain = TinyLlamaConfig()
        own = {field.name for field in fields_of(config)} - {field.name for field in fields_of(LlamaConfig)}  # type: ignore[arg-type]
        free = {*_FIELDS, _OWN, "rope_theta"}
        return all(getattr(config, name) == getattr(plain, name) for name in own - free)

    def written(self, config: PreTrainedConfig) -> dict[str, Any]:
        return {**self.as_json(_theirs(config)), _OWN: getattr(config, _OWN)}

    def read(self, fields: Mapping[str, Any]) -> TinyLlamaConfig:
        ours = _ours(LlamaConfig.from_dict({k: v for k, v in fields.items() if k not in {*self.added, _OWN}}))
        ours.hidden_dropout_prob = fields.get(_OWN, 0.0)
        return ours


def to_llama(model: TinyLlamaForCausalLM | TinyLlamaForSequenceClassification) -> PreTrainedModel:
    """A LlamaForCausalLM or LlamaForSequenceClassification with the same logits, in eval mode.

    Weights that layers have in common are written out, with each layer's own part in them: the copy has as many parameters
    as the model computes with. UserError if transformers has no such model.

    transformers' classifier finds the last token by `pad_token_id`, ours by the attention mask.
    """
    for name in ("norm", "ffn", "depth_capacity"):
        if getattr(model.config, name) != getattr(TinyLlamaConfig(), name):
            raise UserError(
                f"transformers' Llama has no {name}={getattr(model.config, name)!r}.",
                "Use tlm.modeling.interchange.save, and load the folder with `import tlm.modeling.heads` and AutoModel.",
            )
    weights = {name: weight for name, weight in model.state_dict().items() if ".lora_" not in name}
    adapted = {name: module for name, module in model.named_modules() if isinstance(module, Adapted)}
    weights |= {f"{name}.weight": module.merged() for name, module in adapted.items()}
    return with_weights(LlamaForm.heads[type(model)], _theirs(model.config), weights)


def from_llama(model: LlamaForCausalLM | LlamaForSequenceClassification) -> PreTrainedModel:
    """Our model with the same weights and logits, in eval mode. UserError if Llama is set up in a way we lack."""
    target = next(ours for ours, theirs in LlamaForm.heads.items() if theirs is type(model))
    return with_weights(target, _ours(model.config), model.state_dict())


def _theirs(config: Any) -> LlamaConfig:
    fields = {theirs: getattr(config, ours) for ours, theirs in _FIELDS.items()}
    rope = {"rope_type": "default", "rope_theta": config.rope_theta}
    return LlamaConfig(**fields, mlp_bias=config.bias, rope_parameters=rope)


def _ours(config: Any) -> TinyLlamaConfig:
    rope = config.rope_parameters
    alike = {
        "hidden_act": "silu",
        "mlp_bias": config.attention_bias,
        "head_dim": config.hidden_size // config.num_attention_heads,
        "pretraining_tp": 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": rope.get("rope_theta")},
    }
    for field, value in alike.items():
        if getattr(config, field) != value:
            raise UserError(
                f"Llama with {field}={getattr(config, field)!r} has no counterpart here.", f"Only {value!r} has."
            )
    fields = {ours: getattr(config, theirs) for ours, theirs in _FIELDS.items()}
    return TinyLlamaConfig(**fields, rope_theta=rope["rope_theta"], hidden_dropout_prob=0.0)
