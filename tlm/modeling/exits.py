"""A decoder of the Llama kind that stops early: each token leaves at the first exit at which the head is sure enough.

The head that all exits share reads the normalised state after their layers. A token that has left keeps its state, of which
the layers above still make keys and values for the tokens behind it (Elbayad et al. 2020, arXiv 1910.10073; Schuster et al.
2022, arXiv 2207.07061). Whether it leaves depends on it and on what came before it, so that what a model says of a text
remains a probability.

Shapes: R rows of a batch, N queried rows, D hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from tlm.modeling.families.llama import exit_flops
from tlm.modeling.layers import turn_of
from tlm.modeling.layout import Layout, Queries

ROWS_AT_ONCE = 512
"""That the head reads at an exit: their logits are many."""


class EarlyExit:
    """A language model with exits, asked as such a model is (`logits`), in evaluation mode. It counts the layers used.

    What it computes is what tokens that leave would have: every layer is computed for all rows while one has not left,
    and the outputs of those that have are not used.
    """

    def __init__(self, model: Any, threshold: float) -> None:
        """A token leaves if its most likely successor has a probability of `threshold` or more; with 1 none ever does."""
        self.model, self.config, self.threshold = model, model.config, threshold
        self.left = torch.zeros(self.config.num_hidden_layers + 1, dtype=torch.int64)
        """Tokens that have used so many layers. The last one of a sequence, which nothing is predicted from, is none."""
        self._lengths = 0

    def eval(self) -> Self:
        self.model.eval()
        return self

    def to(self, device: str) -> Self:
        self.model.to(device)
        return self

    @property
    def tokens(self) -> int:
        """That were read so far."""
        return int(self.left.sum())

    @property
    def layers(self) -> float:
        """The mean over tokens of the layers used."""
        depths = torch.arange(len(self.left))
        return int((self.left * depths).sum()) / self.tokens  # torch would divide in float32

    @property
    def flops_share(self) -> float:
        """Operations over those of the whole model on the same text, if either predicts from every token: layers, keys and
        values of those above, and the head at every exit that a token came to."""
        length = max(1, round(self._lengths / self.tokens))
        whole = exit_flops(self.config, length, self.config.num_hidden_layers, 1)
        used = 0.0
        for depth, count in enumerate(self.left.tolist()):
            used += count * exit_flops(self.config, length, depth, self._heads(depth)) if count else 0
        return used / (whole * self.tokens)

    def _heads(self, depth: int) -> int:
        """How often a token that uses so many layers is read by the head: at each exit that it comes to, and at its end."""
        if self.threshold >= 1:
            return 1
        return sum(each <= depth for each in self.config.exits) + (depth == self.config.num_hidden_layers)

    def logits(self, ids_R: Tensor, layout: Layout, queries: Queries) -> Tensor:
        """Logits (N, V) of the queried rows, each where it left."""
        states_RD, depths_R = self.states(ids_R, layout)
        self._count(layout, depths_R)
        logits_NV: Tensor = self.model.lm_head(states_RD.index_select(0, queries.rows_N))
        return logits_NV

    def states(self, ids_R: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """What each row is predicted from, (R, D), and the layers that it has used, (R,)."""
        core, config = self.model.model, self.config
        layout.require(config.max_position_embeddings)
        turn = turn_of(layout, config.hidden_size // config.num_attention_heads, config.rope_theta)
        x_RD = core.embed_tokens(ids_R)
        depths_R = torch.full_like(ids_R, config.num_hidden_layers)
        inside_R = torch.ones_like(ids_R, dtype=torch.bool)
        for depth, layer in enumerate(core.layers.children(), start=1):
            x_RD = torch.where(inside_R[:, None], layer(x_RD, layout, turn), x_RD)
            if depth in config.exits and self.threshold < 1:
                leaving = inside_R.nonzero().squeeze(1)
                leaving = leaving[self._confidence(core.norm(x_RD.index_select(0, leaving))) >= self.threshold]
                depths_R[leaving], inside_R[leaving] = depth, False
                if not bool(inside_R.any()):
                    break
        return core.norm(x_RD), depths_R

    def _confidence(self, x_MD: Tensor) -> Tensor:
        """The probability of each row's most likely successor."""
        parts = [
            self.model.lm_head(part).float().softmax(dim=1).amax(dim=1) for part in torch.split(x_MD, ROWS_AT_ONCE)
        ]
        return torch.cat(parts) if parts else x_MD.new_zeros(0, dtype=torch.float32)

    def _count(self, layout: Layout, depths_R: Tensor) -> None:
        read_R = layout.real_R.clone()
        read_R[layout.last_rows()] = False
        sequence_R = layout.sequence_of().to(depths_R.device)
        lengths_B = torch.zeros(layout.sequences, dtype=torch.int64, device=depths_R.device)
        lengths_B.index_add_(0, sequence_R, layout.real_R.long())
        self._lengths += int(lengths_B[sequence_R[read_R]].sum())
        self.left += torch.bincount(depths_R[read_R], minlength=len(self.left)).cpu()
