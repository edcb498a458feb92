"""The two heads of the study, masked language modelling and classification, and their registration.

Shapes: B sequences, T positions, D hidden size, V vocabulary, N masked positions of the batch, L labels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification
from transformers import initialization as init
from transformers.modeling_outputs import MaskedLMOutput, SequenceClassifierOutput

from tlm.modeling.configuration import TinyBertConfig
from tlm.modeling.dropout import Dropout
from tlm.modeling.encoder import TinyBertModel, TinyBertPreTrainedModel

IGNORED_LABEL = -100
"""The label of a position that is not predicted (the convention of torch and transformers)."""


class Transform(nn.Module):
    """dense → GELU → LayerNorm, before the vocabulary projection."""

    def __init__(self, config: TinyBertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """(…, D) → (…, D)."""
        y: Tensor = self.LayerNorm(F.gelu(self.dense(x)))
        return y


class Predictions(nn.Module):
    """The parameters of the MLM head; transformers ties `decoder` to the word embeddings and to `bias`."""

    def __init__(self, config: TinyBertConfig) -> None:
        super().__init__()
        self.transform = Transform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, x: Tensor, weight_VD: Tensor) -> Tensor:
        """(…, D) → logits (…, V), with the word embeddings `weight_VD` as the model reads them."""
        return F.linear(self.transform(x), weight_VD, self.bias)


class TinyBertForMaskedLM(TinyBertPreTrainedModel):
    """The encoder with BERT's masked language modelling head (paper: pre-training)."""

    _tied_weights_keys = {  # noqa: RUF012  # transformers declares it for instances
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }

    def __init__(self, config: TinyBertConfig) -> None:
        super().__init__(config)
        self.bert = TinyBertModel(config, add_pooling_layer=False)
        self.cls = nn.ModuleDict({"predictions": Predictions(config)})
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Predictions):
            init.zeros_(module.bias)

    def get_output_embeddings(self) -> nn.Module:
        """The vocabulary projection, tied to the word embeddings."""
        decoder: nn.Module = self.get_submodule("cls.predictions.decoder")
        return decoder

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **_: Any,
    ) -> MaskedLMOutput:
        """Without labels: logits (B, T, V). With labels (B, T), -100 where nothing is predicted: the mean cross
        entropy over the N others as `loss` (0, with zero gradients, if there is none) and *their* logits (N, V), in
        the order of the flattened batch. No other position is projected onto the vocabulary.
        """
        weight_VD = self.bert.embeddings.word_embeddings.as_read()
        if labels is None:
            x_BTD = self.bert.encode(input_ids, attention_mask, token_type_ids)
            return MaskedLMOutput(logits=self.cls["predictions"](x_BTD, weight_VD))
        rows_N = (labels != IGNORED_LABEL).flatten().nonzero().squeeze(1)
        x_ND = self.bert.encode(input_ids, attention_mask, token_type_ids, rows_N)
        logits_NV = self.cls["predictions"](x_ND, weight_VD)
        total = F.cross_entropy(logits_NV, labels.flatten()[rows_N], reduction="sum")
        return MaskedLMOutput(loss=total / max(len(rows_N), 1), logits=logits_NV)


class TinyBertForSequenceClassification(TinyBertPreTrainedModel):
    """The encoder with a linear head on the [CLS] pooler (paper: fine-tuning)."""

    def __init__(self, config: TinyBertConfig) -> None:
        super().__init__(config)
        self.num_labels = len(config.id2label or ())  # what `num_labels` counts, and never None
        self.bert = TinyBertModel(config)
        dropout = config.classifier_dropout
        self.dropout = Dropout(config.hidden_dropout_prob if dropout is None else dropout)
        self.classifier = nn.Linear(config.hidden_size, self.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **_: Any,
    ) -> SequenceClassifierOutput:
        """Logits (B, L), and with labels (B,) the mean cross entropy as `loss`."""
        x_B1D = self.bert.encode(input_ids, attention_mask, token_type_ids, first_only=True)
        logits_BL = self.classifier(self.dropout(self.bert.pool(x_B1D)))
        loss = None if labels is None else F.cross_entropy(logits_BL, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits_BL)


def register() -> None:
    """Make `AutoModel….from_pretrained(folder)` know these models. Called on import; calling it again is harmless."""
    AutoConfig.register(TinyBertConfig.model_type, TinyBertConfig, exist_ok=True)
    AutoModel.register(TinyBertConfig, TinyBertModel, exist_ok=True)
    AutoModelForMaskedLM.register(TinyBertConfig, TinyBertForMaskedLM, exist_ok=True)
    AutoModelForSequenceClassification.register(TinyBertConfig, TinyBertForSequenceClassification, exist_ok=True)


register()
