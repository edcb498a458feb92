"""The encoder's two heads, masked language modelling and classification, and the registration of all models.

Shapes: B sequences, T positions, D hidden size, V vocabulary, N masked positions of the batch, L labels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
)
from transformers import initialization as init
from transformers.modeling_outputs import MaskedLMOutput, SequenceClassifierOutput

from tlm.modeling.byte_llama import TinyByteForCausalLM, TinyByteForSequenceClassification, TinyByteModel
from tlm.modeling.configuration import TinyBertConfig, TinyByteConfig, TinyGptConfig, TinyLlamaConfig
from tlm.modeling.decoder import TinyGptModel
from tlm.modeling.decoder_heads import (
    TinyGptForCausalLM,
    TinyGptForSequenceClassification,
    TinyLlamaForCausalLM,
    TinyLlamaForSequenceClassification,
)
from tlm.modeling.encoder import TinyBertModel, TinyBertPreTrainedModel, flat
from tlm.modeling.layers import norm_of
from tlm.modeling.layout import Layout, Queries
from tlm.modeling.llama import TinyLlamaModel
from tlm.modeling.loss import IGNORED_LABEL, linear_cross_entropy


class Transform(nn.Module):
    """dense → GELU → normalisation, before the vocabulary projection."""

    def __init__(self, config: TinyBertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size, bias=config.bias)
        self.LayerNorm = norm_of(config)

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
        entropy over the others as `loss`, 0 with zero gradients if there is none, and no logits.
        """
        ids_R, layout, types_R = flat(input_ids, attention_mask, token_type_ids)
        if labels is None:
            x_BTD = self.bert.encode(ids_R, layout, types_R=types_R).view(*input_ids.shape, -1)
            return MaskedLMOutput(logits=self.cls["predictions"](x_BTD, self._words_VD()))
        rows_N = (labels.flatten() != IGNORED_LABEL).nonzero().squeeze(1)
        queries = Queries.of(layout, rows_N)
        return MaskedLMOutput(loss=self.loss(ids_R, layout, queries, labels.flatten()[rows_N], types_R))

    def loss(
        self, ids_R: Tensor, layout: Layout, queries: Queries, labels_N: Tensor, types_R: Tensor | None = None
    ) -> Tensor:
        """Mean cross entropy of the queried rows, 0 for none; no other row is projected onto the vocabulary."""
        predictions: Any = self.cls["predictions"]
        weight_VD = self._words_VD()
        if not len(labels_N):
            return weight_VD.sum() * 0.0
        x_ND = predictions.transform(self.bert.encode(ids_R, layout, queries, types_R))
        return linear_cross_entropy(x_ND, weight_VD, predictions.bias, labels_N)

    def logits(self, ids_R: Tensor, layout: Layout, queries: Queries) -> Tensor:
        """Logits (N, V) of the queried rows."""
        logits_NV: Tensor = self.cls["predictions"](self.bert.encode(ids_R, layout, queries), self._words_VD())
        return logits_NV

    def _words_VD(self) -> Tensor:  # the shape
        weight_VD: Tensor = self.bert.embeddings.word_embeddings.as_read()
        return weight_VD


class TinyBertForSequenceClassification(TinyBertPreTrainedModel):
    """The encoder with a linear head on the [CLS] pooler (paper: fine-tuning)."""

    def __init__(self, config: TinyBertConfig) -> None:
        super().__init__(config)
        self.num_labels = len(config.id2label or ())  # what `num_labels` counts, and never None
        self.bert = TinyBertModel(config)
        dropout = config.classifier_dropout
        self.dropout = nn.Dropout(config.hidden_dropout_prob if dropout is None else dropout)
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
        ids_R, layout, types_R = flat(input_ids, attention_mask, token_type_ids)
        logits_BL = self.logits(ids_R, layout, types_R)
        loss = None if labels is None else F.cross_entropy(logits_BL, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits_BL)

    def loss(self, ids_R: Tensor, layout: Layout, labels_B: Tensor) -> Tensor:
        """Mean cross entropy of the sequences, in the order of the layout."""
        return F.cross_entropy(self.logits(ids_R, layout), labels_B, reduction="none").mean()

    def logits(self, ids_R: Tensor, layout: Layout, types_R: Tensor | None = None) -> Tensor:
        """Logits (B, L) of the sequences, in the order of the layout."""
        first_BD = self.bert.encode(ids_R, layout, Queries.first(layout), types_R)
        logits_BL: Tensor = self.classifier(self.dropout(self.bert.pool(first_BD)))
        return logits_BL


def register() -> None:
    """Make `AutoModel….from_pretrained(folder)` know these models. Called on import; calling it again is harmless."""
    for config in (TinyBertConfig, TinyGptConfig, TinyLlamaConfig, TinyByteConfig):
        AutoConfig.register(config.model_type, config, exist_ok=True)
    for auto, config, model in (
        (AutoModel, TinyBertConfig, TinyBertModel),
        (AutoModelForMaskedLM, TinyBertConfig, TinyBertForMaskedLM),
        (AutoModelForSequenceClassification, TinyBertConfig, TinyBertForSequenceClassification),
        (AutoModel, TinyGptConfig, TinyGptModel),
        (AutoModelForCausalLM, TinyGptConfig, TinyGptForCausalLM),
        (AutoModelForSequenceClassification, TinyGptConfig, TinyGptForSequenceClassification),
        (AutoModel, TinyLlamaConfig, TinyLlamaModel),
        (AutoModelForCausalLM, TinyLlamaConfig, TinyLlamaForCausalLM),
        (AutoModelForSequenceClassification, TinyLlamaConfig, TinyLlamaForSequenceClassification),
        (AutoModel, TinyByteConfig, TinyByteModel),
        (AutoModelForCausalLM, TinyByteConfig, TinyByteForCausalLM),
        (AutoModelForSequenceClassification, TinyByteConfig, TinyByteForSequenceClassification),
    ):
        auto.register(config, model, exist_ok=True)


register()
