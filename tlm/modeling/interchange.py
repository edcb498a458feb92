"""Saving, strict loading, and exchange with transformers' own BERT (GPT-2: `gpt2.py`). No weight is lost or invented.

A folder holds `config.json` and `model.safetensors`; nothing is ever pickled.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from tlm.errors import UserError
from tlm.modeling.configuration import TinyBertConfig
from tlm.modeling.families.base import family_of
from tlm.modeling.heads import TinyBertForMaskedLM, TinyBertForSequenceClassification
from tlm.modeling.options import EncoderOptions

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"

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
    "num_labels",
)


def save(model: PreTrainedModel, folder: str | Path) -> None:
    """Write `config.json` and `model.safetensors` into `folder` (made if need be); a tied weight is stored once."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    tied = _tied(model)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name not in tied}
    save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})


def load_strict(model_class: type[Model], folder: str | Path) -> Model:
    """A `model_class` with exactly the weights of `folder`, in eval mode. Draws no random number.

    UserError if a file is absent or of another kind of model, or if any weight is missing, unexpected or of another
    shape: the message names each. (Tied weights are not stored; they follow the one they are tied to.)
    """
    config = _read_config(folder, model_class.config_class)
    with torch.device("meta"):
        model: Model = model_class(config)
    model.to_empty(device="cpu")
    model.tie_weights()  # to_empty gave each a tensor of its own
    _fill(model, _read_weights(folder), f"{folder}")
    model.eval()
    return model


def load_encoder_into_classifier(classifier: PreTrainedModel, pretrained_folder: str | Path) -> None:
    """Copy every weight below the head, conv front and running statistics included, from a pre-trained model.

    The classifier's own weights keep their values if the checkpoint (a language model) has none. Which may be missing, and
    which of the checkpoint unused, is the family's `Transfer`: BERT's `bert.pooler.*` and `classifier.*`, and `cls.*`.
    UserError names any other weight that is missing, unexpected or of another shape, and any setting (as the number of
    heads) that differs without showing in a shape.
    """
    theirs, ours = _read_config(pretrained_folder, type(classifier).config_class), classifier.config
    transfer = family_of(ours).transfer
    differing = [
        f"{f}={getattr(theirs, f)!r} there, {getattr(ours, f)!r} here"
        for f in transfer.meaning
        if getattr(theirs, f) != getattr(ours, f)
    ]
    if differing:
        raise UserError(
            f"{pretrained_folder}: pre-trained with another architecture: {'; '.join(differing)}.",
            "Build the classifier from the configuration of the pre-trained model.",
        )
    found = _read_weights(pretrained_folder)
    weights = {name: tensor for name, tensor in found.items() if not name.startswith(transfer.language_model_only)}
    _fill(classifier, weights, f"{pretrained_folder}", may_miss=transfer.classifier_only)


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
    for name, value in dict(EncoderOptions()).items():
        own = getattr(model.config, name)
        if own != value:
            raise UserError(f"transformers' BERT has no {name}={own!r}: it is always {value!r}.", instead)
    config = BertConfig(**_shared_fields(model))
    with torch.random.fork_rng(devices=[]):  # an initialisation that is thrown away must not move the seed
        copy = target(config)
    copy.load_state_dict(model.state_dict(), strict=True)
    copy.eval()
    return copy


def _from_transformers(model: PreTrainedModel, target: type[Model], cls_token_id: int | None) -> Model:
    config = model.config
    expected = {
        "hidden_act": "gelu",
        "is_decoder": False,
        "add_cross_attention": False,
        "position_embedding_type": "absolute",
    }
    for field, value in expected.items():
        if getattr(config, field, value) != value:
            raise UserError(
                f"BERT with {field}={getattr(config, field)!r} has no counterpart here.", f"Only {value!r} has."
            )
    ours = TinyBertConfig(**_shared_fields(model), cls_token_id=cls_token_id)
    with torch.random.fork_rng(devices=[]):
        copy: Model = target(ours)
    copy.load_state_dict(model.state_dict(), strict=True)
    copy.eval()
    return copy


def _shared_fields(model: PreTrainedModel) -> dict[str, Any]:
    return {field: getattr(model.config, field) for field in _SHARED}


def _read_config(folder: str | Path, config_class: type[PreTrainedConfig]) -> PreTrainedConfig:
    path = Path(folder) / CONFIG_FILE
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        kind = fields.get("model_type")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.", "Give the folder of a saved model.") from None
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path}: not a model configuration: {error}.", "Save the model again.") from None
    if kind != config_class.model_type:
        raise UserError(
            f"{path}: a model of type {kind!r}, not {config_class.model_type!r}.",
            "Load it with the class it was saved with; convert transformers' own BERT or GPT-2 (from_transformers_…, "
            "from_gpt2).",
        )
    return config_class.from_dict(fields)


def _read_weights(folder: str | Path) -> dict[str, Tensor]:
    path = Path(folder) / WEIGHTS_FILE
    try:
        weights: dict[str, Tensor] = load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.", "Give the folder of a saved model.") from None
    except SafetensorError as error:
        raise UserError(f"{path}: not a whole safetensors file: {error}.", "Save the model again.") from None
    return weights


def _fill(model: nn.Module, weights: dict[str, Tensor], source: str, may_miss: tuple[str, ...] = ()) -> None:
    """Copy `weights` into `model`, if they fit one to one; UserError naming those that do not, before any is copied."""
    wanted = {name: tensor for name, tensor in model.state_dict().items() if name not in _tied(model)}
    missing = [name for name in wanted if name not in weights and not (may_miss and name.startswith(may_miss))]
    unexpected = [name for name in weights if name not in wanted]
    misshapen = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    found = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    problems = [f"{what}: {_listed(names)}" for what, names in found.items() if names]
    if problems:
        raise UserError(
            f"{source}: the weights do not fit {type(model).__name__}. {'; '.join(problems)}.",
            "Load it with the class and the configuration it was saved with.",
        )
    model.load_state_dict(weights, strict=False)


def _tied(model: nn.Module) -> set[str]:
    return set(getattr(model, "_tied_weights_keys", None) or ())


def _listed(names: Iterable[str], most: int = 8) -> str:
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
