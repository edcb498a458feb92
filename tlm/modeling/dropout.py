"""Dropout that is fast on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Dropout(nn.Module):
    """Dropout of `p`; on a CPU its mask takes 16 random bits an element.

    torch draws one 32-bit Bernoulli sample an element on a single thread there, which costs more than all of the
    attention around it; four elements from each 64-bit draw are about four times as fast. `p` is then rounded to a
    multiple of 1/65536, and the scale is that of the rounded value, so that the expectation is exact.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Any shape; the same shape and dtype. The identity in eval mode."""
        if not self.training or self.p == 0.0:
            return x
        if x.device.type != "cpu" or self.p == 1.0:
            return F.dropout(x, self.p)
        dropped_of_65536 = round(self.p * 65536)
        bits = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        scale = torch.empty(x.shape, dtype=x.dtype)
        torch.ge(bits[: x.numel()].view(x.shape), dropped_of_65536 - 32768, out=scale)
        return x * scale.mul_(65536 / (65536 - dropped_of_65536))

    def extra_repr(self) -> str:
        return f"p={self.p}"
