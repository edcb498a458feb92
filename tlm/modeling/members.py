"""Modules whose parameters may belong to several models at once, stacked along a new first dimension.

Rows of a stacked batch are flat: the first R / M belong to member 0, and so on. Everything without parameters
(attention, dropout, residuals) is then the same for one model and for many, and only what is here differs.

Shapes: M members, R rows of all of them, I in and O out features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def linear(x_RI: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(R, I) → (R, O) with weight (O, I) and bias (O,), or (M, O, I) and (M, O), or no bias."""
    if weight.ndim == 2:
        return F.linear(x_RI, weight, bias)
    x_MRI = x_RI.view(len(weight), -1, x_RI.shape[-1])
    if bias is None:
        return torch.bmm(x_MRI, weight.transpose(1, 2)).flatten(0, 1)
    return torch.baddbmm(bias.unsqueeze(1), x_MRI, weight.transpose(1, 2)).flatten(0, 1)


class Linear(nn.Linear):
    """nn.Linear of one model, or of M."""

    def forward(self, x_RI: Tensor) -> Tensor:
        """(R, I) → (R, O)."""
        return linear(x_RI, self.weight, self.bias)


class LayerNorm(nn.LayerNorm):
    """nn.LayerNorm of one model, or of M."""

    def forward(self, x_RI: Tensor) -> Tensor:
        """(R, I) → (R, I)."""
        if self.weight.ndim == 1:
            return super().forward(x_RI)
        y_RI = F.layer_norm(x_RI, self.normalized_shape, eps=self.eps)
        y_MRI = y_RI.view(len(self.weight), -1, y_RI.shape[-1])
        return torch.addcmul(self.bias.unsqueeze(1), y_MRI, self.weight.unsqueeze(1)).flatten(0, 1)


def embedding(ids_R: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """Rows of weight (V, I), or of (M, V, I) each member's own: (R,) → (R, I). `padding_idx` gets no gradient."""
    if weight.ndim == 2:
        return F.embedding(ids_R, weight, padding_idx=padding_idx)
    members, size = weight.shape[:2]
    offsets_M1 = torch.arange(members, device=ids_R.device).unsqueeze(1) * size
    x_RI = F.embedding((ids_R.view(members, -1) + offsets_M1).flatten(), weight.flatten(0, 1))
    if padding_idx is None:
        return x_RI
    padding_R1 = (ids_R == padding_idx).unsqueeze(1)
    return torch.where(padding_R1, x_RI.detach(), x_RI)


class Embedding(nn.Embedding):
    """nn.Embedding of one model, or of M."""

    def forward(self, ids_R: Tensor) -> Tensor:
        """(R,) → (R, I)."""
        return embedding(ids_R, self.weight, self.padding_idx)


def shift(x_RI: Tensor, by: Tensor) -> Tensor:
    """(R, I) plus a vector (I,), or each member's own of (M, I)."""
    if by.ndim == 1:
        return x_RI + by
    return (x_RI.view(len(by), -1, x_RI.shape[-1]) + by.unsqueeze(1)).flatten(0, 1)
