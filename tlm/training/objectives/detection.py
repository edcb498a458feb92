"""An encoder that finds replaced tokens, with the generator that replaces them. Imports torch: `trained_module` of an
objective imports it.

Shapes: R rows of a batch, those of tokens where it says so; N masked rows, D hidden size, V vocabulary.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tlm.modeling import TinyBertForMaskedLM
from tlm.modeling.configuration import TinyBertConfig
from tlm.modeling.layout import Layout, Queries


class Detection(nn.Module):
    """The encoder with a head on every token, as ELECTRA's: a linear map, GELU, a linear map to one logit.

    Args:
        model: the encoder's language model, of whose head nothing is used.
        share: how wide the generator is, see `generator_of`. It has embeddings of its own.
        weight: of the encoder's loss beside the generator's.
    """

    def __init__(self, model: TinyBertForMaskedLM, share: float, weight: float) -> None:
        super().__init__()
        self.model, self.weight = model, weight
        self.generator = TinyBertForMaskedLM(generator_of(model.config, share))
        size = model.config.hidden_size
        self.dense, self.output = nn.Linear(size, size), nn.Linear(size, 1)
        for linear in (self.dense, self.output):
            nn.init.normal_(linear.weight, std=model.config.initializer_range)
            nn.init.zeros_(linear.bias)

    def loss(self, labels_N: Tensor, **inputs: Any) -> Tensor:
        """The mean cross entropy of the generator, and `weight` times that of the encoder over all tokens."""
        generated_NV, logits_R, replaced_R = self.run(labels_N=labels_N, **inputs)
        own = self.weight * F.binary_cross_entropy_with_logits(logits_R, replaced_R.float())
        return own + F.cross_entropy(generated_NV, labels_N) if len(labels_N) else own

    def run(
        self, ids_R: Tensor, layout: Layout, queries: Queries, labels_N: Tensor, chance_N: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The generator's logits (N, V) of the masked rows; of each token, after masked ones were drawn from them, the
        logit of its being replaced, and whether it is: one that was drawn as it had been is not.
        """
        generated_NV = self.generator.logits(ids_R, layout, queries).float()
        drawn_N = drawn(generated_NV.detach(), chance_N)
        filled_R = ids_R.index_copy(0, queries.rows_N, drawn_N)
        replaced_R = torch.zeros_like(ids_R, dtype=torch.bool).index_copy(0, queries.rows_N, drawn_N != labels_N)
        x_RD = self.dense(self.model.bert.encode(filled_R, layout))
        logits_R = self.output(F.gelu(x_RD)).squeeze(1).float()
        return generated_NV, logits_R[layout.real_R], replaced_R[layout.real_R]


def drawn(logits_NV: Tensor, chance_N: Tensor) -> Tensor:
    """Of each row the token at which the cumulated probability passes its chance, (N,)."""
    cumulated_NV = logits_NV.softmax(1).cumsum(1)
    found_N1 = torch.searchsorted(cumulated_NV, chance_N[:, None] * cumulated_NV[:, -1:], right=True)
    return found_N1.squeeze(1).clamp(max=logits_NV.shape[1] - 1)


def generator_of(config: TinyBertConfig, share: float) -> TinyBertConfig:
    """The same encoder with that share of its heads, one at least, as wide as they were, and of its feed-forward network;
    without a convolutional front.
    """
    heads = max(1, round(share * config.num_attention_heads))
    narrow = deepcopy(config)
    narrow.num_attention_heads = heads
    narrow.hidden_size = config.hidden_size // config.num_attention_heads * heads
    narrow.intermediate_size = max(1, config.intermediate_size * heads // config.num_attention_heads)
    narrow.conv_kernel_sizes, narrow.conv_channels = (), 0
    return narrow
