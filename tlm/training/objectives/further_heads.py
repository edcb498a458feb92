"""A decoder with heads for tokens beyond the next one. Imports torch: `trained_module` of an objective imports it.

Shapes: N predicting rows, A tokens that each predicts, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tlm.modeling.layout import Layout, Queries
from tlm.modeling.loss import IGNORED_LABEL, linear_cross_entropy


class FurtherHeads(nn.Module):
    """A language model of `tlm.modeling.decoder_heads.NextToken` and so many heads beside its own.

    Each is a residual map of the model's last state, before the same projection onto the vocabulary (as in Medusa: Cai et
    al. 2024, arXiv 2401.10774). At first it is the identity: every head begins as the model's own.
    """

    def __init__(self, model: Any, further: int) -> None:
        super().__init__()
        self.model = model
        size = model.config.hidden_size
        self.maps = nn.ModuleList(nn.Linear(size, size, bias=False) for _ in range(further))
        for own in self.maps.parameters():
            nn.init.zeros_(own)

    def loss(self, ids_R: Tensor, layout: Layout, queries: Queries, labels_NA: Tensor) -> Tensor:
        """The mean over heads of the mean cross entropy of the rows that have such a token after them."""
        losses = []
        for x_ND, labels_N in zip(self._states(ids_R, layout, queries), labels_NA.unbind(1), strict=True):
            kept = labels_N != IGNORED_LABEL
            if bool(kept.any()):
                losses.append(linear_cross_entropy(x_ND[kept], self.model.lm_head.weight, None, labels_N[kept]))
        mean: Tensor = torch.stack(losses).mean() if losses else self.model.lm_head.weight.sum() * 0.0
        return mean

    def logits(self, ids_R: Tensor, layout: Layout, queries: Queries) -> Iterator[Tensor]:
        """Logits (N, V) of one head after another, the model's own first."""
        return (self.model.lm_head(x_ND) for x_ND in self._states(ids_R, layout, queries))

    def _states(self, ids_R: Tensor, layout: Layout, queries: Queries) -> Iterator[Tensor]:
        x_ND = self.model.states(ids_R, layout, queries)
        yield x_ND
        yield from (x_ND + F.silu(own(x_ND)) for own in self.maps)
