"""What follows from an architecture's kind, in one table: its classes, and the batches that it is pre-trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tlm.data.ragged import Ragged, Rows
from tlm.data.tokenizer import Vocabulary
from tlm.modeling import (
    TinyBertConfig,
    TinyBertForMaskedLM,
    TinyBertForSequenceClassification,
    TinyGptConfig,
    TinyGptForCausalLM,
    TinyGptForSequenceClassification,
)
from tlm.study.config import PretrainConfig
from tlm.training.batching import Order, packer
from tlm.training.loop import Data, Inputs
from tlm.training.masking import Masker, masked_inputs, next_token_inputs

LanguageModel = TinyBertForMaskedLM | TinyGptForCausalLM
Classifier = TinyBertForSequenceClassification | TinyGptForSequenceClassification


def mlm_data(
    model: TinyBertForMaskedLM,
    corpus: Ragged,
    vocabulary: Vocabulary,
    config: PretrainConfig,
    *,
    max_length: int,
    seed: int,
    device: str = "cpu",
) -> Data:
    """The batches of masked language modelling: order and masks are functions of seed and step alone."""
    masker = Masker(vocabulary, config.mlm_probability, seed)
    pack = packer(model.config, device)

    def inputs(step: int, rows: Rows) -> Inputs:
        return masked_inputs(pack(corpus, rows, vocabulary, max_length), masker, step)

    return Data(Order(len(corpus), config.batch_size, seed), inputs)


def causal_data(
    model: TinyGptForCausalLM,
    corpus: Ragged,
    vocabulary: Vocabulary,
    config: PretrainConfig,
    *,
    max_length: int,
    seed: int,
    device: str = "cpu",
) -> Data:
    """The batches of causal language modelling, in the same order."""
    pack = packer(model.config, device)

    def inputs(step: int, rows: Rows) -> Inputs:
        return next_token_inputs(pack(corpus, rows, vocabulary, max_length))

    return Data(Order(len(corpus), config.batch_size, seed), inputs)


@dataclass(frozen=True)
class Kind:
    config: Any
    language_model: type[LanguageModel]
    classifier: type[Classifier]
    data: Callable[..., Data]
    """Called as `mlm_data` is."""
    evaluated_at_once: int
    """Sequences in a batch of held-out evaluation: every predicted position has logits over the whole vocabulary."""


KINDS = {
    "encoder": Kind(TinyBertConfig, TinyBertForMaskedLM, TinyBertForSequenceClassification, mlm_data, 128),
    "decoder": Kind(TinyGptConfig, TinyGptForCausalLM, TinyGptForSequenceClassification, causal_data, 16),
}
"""By `Architecture.kind`."""
