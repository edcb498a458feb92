"""Saving and strict loading: no weight is lost or invented. (Exchange with transformers' own models: `bert.py`, `gpt2.py`,
`llama_form.py`.)

A folder holds `config.json` and `model.safetensors`; nothing is ever pickled.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from tlm.errors import UserError
from tlm.modeling.bert import BertForm
from tlm.modeling.configuration import TinyBertConfig, TinyGptConfig, TinyLlamaConfig
from tlm.modeling.families.base import family_of
from tlm.modeling.form import Form
from tlm.modeling.gpt2 import Gpt2Form
from tlm.modeling.llama_form import LlamaForm
from tlm.modeling.storage import Storage, restored

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
COMPRESSED, OF_TYPE = "tlm_compressed", "compressed_model_type"
"""In config.json: the type of a model whose weights are stored in a way of our own, and where its true type stands."""

Model = TypeVar("Model", bound=PreTrainedModel)
FORMS: Mapping[type[PreTrainedConfig], Form] = {
    TinyBertConfig: BertForm(),
    TinyGptConfig: Gpt2Form(),
    TinyLlamaConfig: LlamaForm(),
}
"""Of our configurations, how models with them are saved if transformers has them. Any other is saved as it is."""


def save(model: PreTrainedModel, folder: str | Path, storage: Storage | None = None) -> None:
    """Write `config.json` and `model.safetensors` into `folder` (made if need be); a tied weight is stored once.

    A model that transformers has is saved as transformers' own: AutoModel loads it without this package. With a `storage`
    (`tlm.modeling.storage`) it is ours alone, and transformers refuses the folder: it would take what is there for weights.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    form = FORMS.get(type(model.config))
    tied = _tied(model)
    weights = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
    if storage is None and form is not None and type(model) in form.heads and form.has(model.config):
        (folder / CONFIG_FILE).write_text(form.text(model), encoding="utf-8")
        weights = {name: form.turned(name, tensor) for name, tensor in weights.items()}
    else:
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(folder)
    weights = {name: tensor.contiguous() for name, tensor in weights.items()}
    if storage is not None:
        weights = storage({name: tensor.cpu() for name, tensor in weights.items()})
        _hide(folder / CONFIG_FILE)
    save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})


def name_labels(classifier: PreTrainedModel, names: Sequence[str]) -> None:
    """Say in a classifier's configuration what its labels are called: `names[c]` is the name of logit c."""
    classifier.config.id2label = dict(enumerate(names))
    classifier.config.label2id = {name: index for index, name in enumerate(names)}


def load_strict(model_class: type[Model], folder: str | Path) -> Model:
    """A `model_class` with exactly the weights of `folder`, in eval mode. Draws no random number.

    UserError if a file is absent or of another kind of model, or if any weight is missing, unexpected or of another
    shape: the message names each. (Tied weights are not stored; they follow the one they are tied to.)
    """
    config, form = _read_config(folder, model_class.config_class)
    with torch.device("meta"):
        model: Model = model_class(config)
    model.to_empty(device="cpu")
    model.tie_weights()  # to_empty gave each a tensor of its own
    _fill(model, _read_weights(folder, form), f"{folder}")
    model.eval()
    return model


def load_encoder_into_classifier(classifier: PreTrainedModel, pretrained_folder: str | Path) -> None:
    """Copy every weight below the head, conv front and running statistics included, from a pre-trained model.

    The classifier's own weights keep their values if the checkpoint (a language model) has none. Which may be missing, and
    which of the checkpoint unused, is the family's `Transfer`: BERT's `bert.pooler.*` and `classifier.*`, and `cls.*`.
    UserError names any other weight that is missing, unexpected or of another shape, and any setting (as the number of
    heads) that differs without showing in a shape.
    """
    (theirs, form), ours = _read_config(pretrained_folder, type(classifier).config_class), classifier.config
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
    found = _read_weights(pretrained_folder, form)
    weights = {name: tensor for name, tensor in found.items() if not name.startswith(transfer.language_model_only)}
    _fill(classifier, weights, f"{pretrained_folder}", may_miss=transfer.classifier_only)


def _hide(config: Path) -> None:
    """Give a saved configuration a type that transformers does not know."""
    fields = json.loads(config.read_text(encoding="utf-8"))
    fields |= {"model_type": COMPRESSED, OF_TYPE: fields["model_type"]}
    config.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _read_config(folder: str | Path, config_class: type[PreTrainedConfig]) -> tuple[PreTrainedConfig, Form | None]:
    """The configuration, and the form that it and its weights are in (None: our own)."""
    path = Path(folder) / CONFIG_FILE
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        kind = fields.get("model_type")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.", "Give the folder of a saved model.") from None
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path}: not a model configuration: {error}.", "Save the model again.") from None
    if kind == COMPRESSED:
        kind = fields["model_type"] = fields.pop(OF_TYPE, None)
    form = FORMS.get(config_class)
    if form is not None and kind == form.model_type:
        return form.read(fields), form
    if kind != config_class.model_type:
        known = [*([form.model_type] if form else []), config_class.model_type]
        raise UserError(
            f"{path}: a model of type {kind!r}, not {' or '.join(map(repr, known))}.",
            "Load it with the class it was saved with.",
        )
    return config_class.from_dict(fields), None


def _read_weights(folder: str | Path, form: Form | None) -> dict[str, Tensor]:
    path = Path(folder) / WEIGHTS_FILE
    try:
        weights: dict[str, Tensor] = load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.", "Give the folder of a saved model.") from None
    except SafetensorError as error:
        raise UserError(f"{path}: not a whole safetensors file: {error}.", "Save the model again.") from None
    weights = restored(weights)
    return {name: form.turned(name, weight) for name, weight in weights.items()} if form else weights


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
    """The names of weights that are stored under another: a projection that is an embedding, and what layers share."""
    return set(getattr(model, "all_tied_weights_keys", ()))


def _listed(names: Iterable[str], most: int = 8) -> str:
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
