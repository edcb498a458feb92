"""The models of the study: BERT encoders with an optional convolutional front, GPT-2 and Llama decoders, a Llama over
bytes, and their families.

`tlm.modeling.families` and `tlm.modeling.cost` need no torch: a study is planned with them. The names below import torch
and transformers on first use, and register the models with transformers' Auto classes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tlm.modeling.byte_llama import TinyByteForCausalLM, TinyByteForSequenceClassification, TinyByteModel
    from tlm.modeling.configuration import TinyBertConfig, TinyByteConfig, TinyGptConfig, TinyLlamaConfig
    from tlm.modeling.decoder import TinyGptModel
    from tlm.modeling.decoder_heads import (
        TinyGptForCausalLM,
        TinyGptForSequenceClassification,
        TinyLlamaForCausalLM,
        TinyLlamaForSequenceClassification,
    )
    from tlm.modeling.encoder import TinyBertModel
    from tlm.modeling.heads import TinyBertForMaskedLM, TinyBertForSequenceClassification, register
    from tlm.modeling.llama import TinyLlamaModel

__all__ = [
    "TinyBertConfig",
    "TinyBertForMaskedLM",
    "TinyBertForSequenceClassification",
    "TinyBertModel",
    "TinyByteConfig",
    "TinyByteForCausalLM",
    "TinyByteForSequenceClassification",
    "TinyByteModel",
    "TinyGptConfig",
    "TinyGptForCausalLM",
    "TinyGptForSequenceClassification",
    "TinyGptModel",
    "TinyLlamaConfig",
    "TinyLlamaForCausalLM",
    "TinyLlamaForSequenceClassification",
    "TinyLlamaModel",
    "register",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module("tlm.modeling.heads"), name)
    globals()[name] = value  # so that the next look-up is a plain one
    return value
