"""Exchange with transformers' own BERT: the same weights under the same names, and the same logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields as fields_of
from typing import Any, TypeVar

from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, PreTrainedConfig, PreTrainedModel

from tlm.errors import UserError
from tlm.modeling.configuration import TinyBertConfig
from tlm.modeling.form import Form, with_weights
from tlm.modeling.heads import TinyBertForMaskedLM, TinyBertForSequenceClassification

Model = TypeVar("Model", bound=PreTrainedModel)
Transformers = TypeVar("Transformers", BertForMaskedLM, BertForSequenceClassification)

# The fields that BERT's configuration and ours share.
_SHARED = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "max_position_embeddings",
    "type_vocab_size",
    "initializer_range",
    "layer_norm_eps",
    "pad_token_id",
    "classifier_dropout",
    "id2label",
    "label2id",
)
_ALIKE = {
    "hidden_act": "gelu",
    "is_decoder": False,
    "add_cross_attention": False,
    "position_embedding_type": "absolute",
}
"""How every model of ours is set up, so that a BERT must be."""
_OF_TRAINING = {"cls_token_id", "conv_channels", "conv_over_padding", "freeze_cls_embedding"}
"""Our own fields that change nothing of what a trained model without a convolutional front computes."""


class BertForm(Form):
    """`config.json` of transformers' BERT, with our own fields beside its own, which it does not look at."""

    model_type = "bert"
    heads = {  # noqa: RUF012  # ClassVar in the base
        TinyBertForMaskedLM: BertForMaskedLM,
        TinyBertForSequenceClassification: BertForSequenceClassification,
    }

    def has(self, config: PreTrainedConfig) -> bool:
        return not _unlike(config)

    def written(self, config: PreTrainedConfig) -> dict[str, Any]:
        return self.as_json(config)

    def read(self, fields: Mapping[str, Any]) -> TinyBertConfig:
        _refuse_others(fields)
        found: TinyBertConfig = TinyBertConfig.from_dict({k: v for k, v in fields.items() if k not in self.added})
        return found


def to_transformers_mlm(model: TinyBertForMaskedLM) -> BertForMaskedLM:
    """transformers' BERT with the same weights and logits, in eval mode. UserError if the model has a conv front."""
    return _to_transformers(model, BertForMaskedLM)


def to_transformers_classifier(model: TinyBertForSequenceClassification) -> BertForSequenceClassification:
    """transformers' BERT with the same weights and logits, in eval mode. UserError if the model has a conv front."""
    return _to_transformers(model, BertForSequenceClassification)


def from_transformers_mlm(model: BertForMaskedLM, *, cls_token_id: int | None = None) -> TinyBertForMaskedLM:
    """Our model with the same weights and logits, in eval mode. UserError if BERT is set up in a way we lack."""
    return _from_transformers(model, TinyBertForMaskedLM, cls_token_id)


def from_transformers_classifier(
    model: BertForSequenceClassification, *, cls_token_id: int | None = None
) -> TinyBertForSequenceClassification:
    """Our model with the same weights and logits, in eval mode. UserError if BERT is set up in a way we lack."""
    return _from_transformers(model, TinyBertForSequenceClassification, cls_token_id)


def _to_transformers(model: PreTrainedModel, target: type[Transformers]) -> Transformers:
    instead = "Use tlm.modeling.interchange.save, and load the folder with `import tlm.modeling.heads` and AutoModel."
    if model.config.conv_kernel_sizes:
        raise UserError("transformers' BERT has no convolutional front: the conv weights would be lost.", instead)
    for name, value in _unlike(model.config).items():
        own = getattr(model.config, name)
        raise UserError(f"transformers' BERT has no {name}={own!r}: it is always {value!r}.", instead)
    config = BertConfig(**_shared_fields(model))
    return with_weights(target, config, model.state_dict())


def _from_transformers(model: PreTrainedModel, target: type[Model], cls_token_id: int | None) -> Model:
    _refuse_others({name: getattr(model.config, name, value) for name, value in _ALIKE.items()})
    ours = TinyBertConfig(**_shared_fields(model), cls_token_id=cls_token_id)
    return with_weights(target, ours, model.state_dict())


def _unlike(config: PreTrainedConfig) -> dict[str, Any]:
    """The fields in which a configuration of ours differs from every BERT in what a trained model computes, and BERT's
    values."""
    plain, theirs = TinyBertConfig(), {field.name for field in fields_of(BertConfig)}  # type: ignore[arg-type]
    own = {field.name for field in fields_of(config)} - theirs - _OF_TRAINING  # type: ignore[arg-type]
    usual = {**{name: getattr(plain, name) for name in sorted(own)}, **_ALIKE}
    return {name: value for name, value in usual.items() if getattr(config, name, value) != value}


def _refuse_others(fields: Mapping[str, Any]) -> None:
    for field, value in _ALIKE.items():
        if fields.get(field, value) != value:
            raise UserError(f"BERT with {field}={fields[field]!r} has no counterpart here.", f"Only {value!r} has.")


def _shared_fields(model: PreTrainedModel) -> dict[str, Any]:
    return {field: getattr(model.config, field) for field in _SHARED}
