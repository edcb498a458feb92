"""What decoders do with their last layer's output: predict the next token, or classify.

Shapes: B sequences, T positions, R rows of a batch in its layout, D hidden size, V vocabulary, N predicting rows, L labels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import CausalLMOutput, SequenceClassifierOutput

from tlm.modeling.configuration import TinyGptConfig, TinyLlamaConfig
from tlm.modeling.decoder import TinyGptModel, TinyGptPreTrainedModel, flat_causal
from tlm.modeling.layout import Layout, Queries
from tlm.modeling.llama import TinyLlamaModel, TinyLlamaPreTrainedModel
from tlm.modeling.loss import IGNORED_LABEL, linear_cross_entropy


class NextToken:
    """A language model that is a decoder (`base_model`) and `lm_head`, a projection onto the vocabulary without a bias."""

    base_model: Any
    lm_head: nn.Linear

    def get_output_embeddings(self) -> nn.Module:
        """The vocabulary projection, tied to the token embeddings unless the configuration says otherwise."""
        return self.lm_head

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **_: Any
    ) -> CausalLMOutput:
        """Without labels: logits (B, T, V). With labels (B, T), each the token of its own position and -100 where nothing
        is predicted: the mean cross entropy as `loss`, 0 with zero gradients if there is none, and no logits.

        ValueError if a token follows padding.
        """
        ids_R, layout = flat_causal(input_ids, attention_mask)
        if labels is None:
            x_BTD = self.base_model.decode(ids_R, layout).view(*input_ids.shape, -1)
            return CausalLMOutput(logits=self.lm_head(x_BTD))
        next_R = F.pad(labels[:, 1:], (0, 1), value=IGNORED_LABEL).flatten()
        rows_N = (next_R != IGNORED_LABEL).nonzero().squeeze(1)
        return CausalLMOutput(loss=self.loss(ids_R, layout, Queries.of(layout, rows_N), next_R[rows_N]))

    def loss(self, ids_R: Tensor, layout: Layout, queries: Queries, labels_N: Tensor) -> Tensor:
        """Mean cross entropy of the queried rows, 0 for none; a row's label is the token that follows it."""
        weight_VD = self.lm_head.weight
        if not len(labels_N):
            return weight_VD.sum() * 0.0
        return linear_cross_entropy(self.states(ids_R, layout, queries), weight_VD, None, labels_N)

    def logits(self, ids_R: Tensor, layout: Layout, queries: Queries) -> Tensor:
        """Logits (N, V) of the queried rows."""
        logits_NV: Tensor = self.lm_head(self.states(ids_R, layout, queries))
        return logits_NV

    def states(self, ids_R: Tensor, layout: Layout, queries: Queries) -> Tensor:
        """What the queried rows are predicted from, (N, D): the decoder's output."""
        # All but one row of each sequence are asked for: it is not worth treating that one apart in the last layer.
        x_RD: Tensor = self.base_model.decode(ids_R, layout)
        return x_RD.index_select(0, queries.rows_N)


class LastToken:
    """A classifier that is a decoder (`base_model`) and `score`, a linear map without a bias, on the last token, [SEP]."""

    base_model: Any
    score: nn.Linear

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **_: Any
    ) -> SequenceClassifierOutput:
        """Logits (B, L), and with labels (B,) the mean cross entropy as `loss`. ValueError if a token follows padding."""
        logits_BL = self.logits(*flat_causal(input_ids, attention_mask))
        loss = None if labels is None else F.cross_entropy(logits_BL, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits_BL)

    def loss(self, ids_R: Tensor, layout: Layout, labels_B: Tensor) -> Tensor:
        """Mean cross entropy of the sequences, in the order of the layout."""
        return F.cross_entropy(self.logits(ids_R, layout), labels_B, reduction="none").mean()

    def logits(self, ids_R: Tensor, layout: Layout) -> Tensor:
        """Logits (B, L) of the sequences, in the order of the layout."""
        logits_BL: Tensor = self.score(self.base_model.decode(ids_R, layout, last=True))
        return logits_BL


class TinyGptForCausalLM(NextToken, TinyGptPreTrainedModel):
    """The decoder with GPT-2's language modelling head: the token embeddings, no bias."""

    _tied_weights_keys = {"lm_head.weight": "transformer.wte.weight"}  # noqa: RUF012  # declared for instances

    def __init__(self, config: TinyGptConfig) -> None:
        super().__init__(config)
        self.transformer = TinyGptModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()


class TinyGptForSequenceClassification(LastToken, TinyGptPreTrainedModel):
    """The decoder with a linear head as GPT2ForSequenceClassification's."""

    def __init__(self, config: TinyGptConfig) -> None:
        super().__init__(config)
        self.num_labels = len(config.id2label or ())  # what `num_labels` counts, and never None
        self.transformer = TinyGptModel(config)
        self.score = nn.Linear(config.hidden_size, self.num_labels, bias=False)
        self.post_init()


class TinyLlamaForCausalLM(NextToken, TinyLlamaPreTrainedModel):
    """The decoder with Llama's language modelling head: no bias, and the token embeddings if they are tied.

    With `exits` the loss is that of every depth at which the head may read the state (`tlm.modeling.exits`).
    """

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012  # declared for instances

    def __init__(self, config: TinyLlamaConfig) -> None:
        super().__init__(config)
        self.model = TinyLlamaModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def loss(self, ids_R: Tensor, layout: Layout, queries: Queries, labels_N: Tensor) -> Tensor:
        """Mean cross entropy of the queried rows, 0 for none; with exits the mean over exits and the last layer, each
        weighted by its number of layers (Zhou et al. 2020, arXiv 2006.04152).
        """
        if not self.config.exits or not len(labels_N):
            return super().loss(ids_R, layout, queries, labels_N)
        depths = (*self.config.exits, self.config.num_hidden_layers)
        states = self.model.after(self.model.embed_tokens(ids_R), layout, depths)
        losses = [
            depth * linear_cross_entropy(x_RD.index_select(0, queries.rows_N), self.lm_head.weight, None, labels_N)
            for depth, x_RD in zip(depths, states, strict=True)
        ]
        return torch.stack(losses).sum() / sum(depths)


class TinyLlamaForSequenceClassification(LastToken, TinyLlamaPreTrainedModel):
    """The decoder with a linear head as LlamaForSequenceClassification's."""

    def __init__(self, config: TinyLlamaConfig) -> None:
        super().__init__(config)
        self.num_labels = len(config.id2label or ())
        self.model = TinyLlamaModel(config)
        self.score = nn.Linear(config.hidden_size, self.num_labels, bias=False)
        self.post_init()
