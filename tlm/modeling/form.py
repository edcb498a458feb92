"""The form in which a model is saved: transformers' own wherever transformers has it, so that it means the same there."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

Model = TypeVar("Model", bound=PreTrainedModel)

TOKENIZER_CLASS = "PreTrainedTokenizerFast"
"""Who makes a tokenizer of the files beside the model: without them AutoTokenizer fails, where a model's own class would
make one without a vocabulary."""


def with_weights(target: type[Model], config: PreTrainedConfig, weights: Mapping[str, Tensor]) -> Model:
    """A model of another class with these weights, every one of them, in eval mode."""
    with torch.random.fork_rng(devices=[]):  # an initialisation that is thrown away must not move the seed
        copy: Model = target(config)
    copy.load_state_dict(weights, strict=True)
    copy.eval()
    return copy


class Form(ABC):
    """How one kind of model stands in a folder that transformers loads by itself."""

    model_type: ClassVar[str]
    """transformers' name for it."""
    heads: ClassVar[Mapping[type[PreTrainedModel], type[PreTrainedModel]]]
    """Our classes, and those of transformers that compute the same."""
    added: ClassVar[frozenset[str]] = frozenset({"model_type", "architectures", "tokenizer_class"})
    """Fields of config.json that are not those of a configuration."""

    @abstractmethod
    def has(self, config: PreTrainedConfig) -> bool:
        """Whether transformers has a model that computes what ours with this configuration does, once it is trained."""

    @abstractmethod
    def written(self, config: PreTrainedConfig) -> dict[str, Any]:
        """The fields of `config.json`, but those that `added` names."""

    @abstractmethod
    def read(self, fields: Mapping[str, Any]) -> PreTrainedConfig:
        """Our configuration from those fields. Raises UserError if the model is set up in a way that we lack."""

    def turned(self, name: str, weight: Tensor) -> Tensor:
        """A weight of ours as it stands in the file, and one from the file as it is ours."""
        return weight

    def text(self, model: PreTrainedModel) -> str:
        """What `config.json` holds."""
        fields = {
            **self.written(model.config),
            "model_type": self.model_type,
            "architectures": [self.heads[type(model)].__name__],
            "tokenizer_class": TOKENIZER_CLASS,
        }
        return json.dumps(fields, indent=2, sort_keys=True) + "\n"

    @staticmethod
    def as_json(config: PreTrainedConfig) -> dict[str, Any]:
        """The fields that a configuration would be saved with."""
        found: dict[str, Any] = json.loads(config.to_json_string())
        return found
