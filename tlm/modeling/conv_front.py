"""The convolutional front of the BERT-1 variants: it reads (positions, hidden) as an image of one channel.

Shapes: B sequences, T positions, D hidden size, C channels, N real (not [PAD]) positions of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MaskedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over real positions only, and zero at the others.

    What a real position becomes, and the running statistics, do not depend on how much padding a batch holds.
    """

    def forward(self, x_BCTD: Tensor, mask_BT: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """`mask_BT`: True at real positions; None normalises over every position, as nn.BatchNorm2d does.

        In training mode ValueError if the batch holds a single value for each channel.
        """
        if mask_BT is None:
            return super().forward(x_BCTD)
        if not self.training:
            return super().forward(x_BCTD).masked_fill(~mask_BT[:, None, :, None], 0.0)
        # Gathering the real positions lets torch's own fused kernel do the rest, on fewer elements. With channels
        # last in memory (B, T, D, C) all these permutations are views.
        rows_N = mask_BT.flatten().nonzero().squeeze(1)
        real_NDC = x_BCTD.permute(0, 2, 3, 1).flatten(0, 1).index_select(0, rows_N)
        y_NDC = super().forward(real_NDC.permute(2, 0, 1).unsqueeze(0)).squeeze(0).permute(1, 2, 0)
        y_BTDC = y_NDC.new_zeros(mask_BT.numel(), *y_NDC.shape[1:]).index_copy_(0, rows_N, y_NDC)
        return y_BTDC.view(*mask_BT.shape, *y_NDC.shape[1:]).permute(0, 3, 1, 2)


class ConvLayer(nn.Module):
    """Conv2d, batch normalisation, GELU; the image keeps its size, as with torch's padding="same".

    An even kernel has one more zero after the image than before it.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        positions, hidden = kernel
        # torch's own padding="same" warns about even kernels; this is what it does with them.
        self.extra = (0, (hidden + 1) % 2, 0, (positions + 1) % 2)
        padding = ((positions - 1) // 2, (hidden - 1) // 2)
        # No bias: the normalisation would subtract it again.
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, padding=padding, bias=False)
        self.norm = MaskedBatchNorm2d(out_channels)

    def forward(self, x_BCTD: Tensor, mask_BT: Tensor | None) -> Tensor:
        """Zero at [PAD] again wherever a mask is given, because GELU(0) = 0."""
        if any(self.extra):
            x_BCTD = F.pad(x_BCTD, self.extra)
        return F.gelu(self.norm(self.conv(x_BCTD), mask_BT))


class ConvFront(nn.Module):
    """n × [Conv2d → BatchNorm2d → GELU] to C channels, then a 1×1 convolution back to one (source: released code).

    `over_padding` is the reference code's way: [PAD] embeddings enter the convolutions and the statistics. Otherwise
    padded positions are zero before every convolution and take no part in the statistics.
    """

    def __init__(self, kernel_sizes: Sequence[tuple[int, int]], channels: int, over_padding: bool = False) -> None:
        super().__init__()
        self.over_padding = over_padding
        widths = [1] + [channels] * len(kernel_sizes)
        self.layers = nn.ModuleList(
            ConvLayer(c_in, c_out, kernel)
            for c_in, c_out, kernel in zip(widths[:-1], widths[1:], kernel_sizes, strict=True)
        )
        self.layers.append(ConvLayer(channels, 1, (1, 1)))

    def forward(self, x_BTD: Tensor, mask_BT: Tensor | None) -> Tensor:
        """(B, T, D) embeddings and True at real positions (None: all are) → (B, T, D)."""
        mask_BT = None if self.over_padding else mask_BT
        if mask_BT is not None:
            x_BTD = x_BTD.masked_fill(~mask_BT.unsqueeze(-1), 0.0)
        # Channels last in memory: these convolutions run two to four times as fast on a CPU. With one channel only
        # the strides tell the two layouts apart, hence the permutation rather than .to(memory_format=...).
        x_BCTD: Tensor = x_BTD.contiguous().unsqueeze(-1).permute(0, 3, 1, 2)
        for layer in self.layers:
            x_BCTD = layer(x_BCTD, mask_BT)
        return torch.squeeze(x_BCTD, 1)
