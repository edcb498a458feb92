"""The convolutional front of the BERT-1 variants: it reads (positions, hidden) as an image of one channel.

The sequences of a batch lie one after another on one long strip, with gaps of zeros as wide as the kernels reach: no
convolution sees a neighbour, and next to nothing is padding.

Shapes: R rows of the batch, S positions of the strip, N real positions, D hidden size, C channels; B = 1 image of
T = S positions, or with `over_padding` B images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tlm.modeling.layout import Layout

SIZES_AN_OCTAVE = 16
"""How many lengths a strip may have between two powers of two. It is rounded up to one of them, by at most a sixteenth,
because the convolution of a new length is compiled first, which costs milliseconds."""
EVALUATED_AT_ONCE = 4_096
"""Positions on a strip in evaluation, at most unless one sequence has more. A batch of the paper's has as many in training;
its images of 64 channels take 0.4 GB in bfloat16."""


class _BatchNormGelu(torch.autograd.Function):
    """Batch normalisation over the real positions, then GELU; zero at the gaps. Keeps its input only.

    torch's kernels, each position of the strip counted; the gaps are zero in every sum, and what they add to the
    count is corrected here.
    """

    @staticmethod
    def forward(
        ctx: Any, x_BCSD: Tensor, weight_C: Tensor, bias_C: Tensor, gaps_G: Tensor, norm: BatchNormGelu2d
    ) -> Tensor:
        x_BCSD = x_BCSD.index_fill(2, gaps_G, 0) if x_BCSD.requires_grad else x_BCSD.index_fill_(2, gaps_G, 0)
        positions = x_BCSD.shape[2]
        real = positions - len(gaps_G)
        count = x_BCSD.shape[0] * real * x_BCSD.shape[3]
        # Float32 statistics to move, whatever the input: without them those returned would be rounded like the input.
        zero_C = torch.zeros_like(weight_C)
        mean_C, var_C = torch.batch_norm_update_stats(x_BCSD, zero_C, zero_C.clone(), 0.0)
        square_C = (var_C + mean_C**2) * (positions / real)
        mean_C = mean_C * (positions / real)
        var_C = (square_C - mean_C**2).clamp_(min=0)
        norm.update(mean_C, var_C * (count / (count - 1)))
        y_BCSD = torch.batch_norm(x_BCSD, weight_C, bias_C, mean_C, var_C, False, 0.0, norm.eps, False)
        ctx.save_for_backward(x_BCSD, weight_C, bias_C, gaps_G, mean_C, var_C)
        ctx.eps, ctx.count = norm.eps, count
        return F.gelu(y_BCSD).index_fill_(2, gaps_G, 0)

    @staticmethod
    def backward(ctx: Any, grad_BCSD: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x_BCSD, weight_C, bias_C, gaps_G, mean_C, var_C = ctx.saved_tensors
        y_BCSD = torch.batch_norm(x_BCSD, weight_C, bias_C, mean_C, var_C, False, 0.0, ctx.eps, False)
        g_BCSD = torch.ops.aten.gelu_backward(grad_BCSD, y_BCSD).index_fill_(2, gaps_G, 0)
        # As if mean and variance were constants; then what flows through them, an affine map of x for each channel.
        dx_BCSD, dweight_C, dbias_C = torch.ops.aten.native_batch_norm_backward(
            g_BCSD, x_BCSD, weight_C, mean_C, var_C, None, None, False, ctx.eps, [True, True, True]
        )
        invstd_C = (var_C + ctx.eps).rsqrt()
        slope_C = -weight_C * invstd_C**2 * dweight_C / ctx.count
        offset_C = -weight_C * invstd_C * dbias_C / ctx.count - slope_C * mean_C
        slope, offset = (v.to(dx_BCSD.dtype).view(1, -1, 1, 1) for v in (slope_C, offset_C))
        dx_BCSD.addcmul_(x_BCSD, slope).add_(offset)
        return dx_BCSD.index_fill_(2, gaps_G, 0), dweight_C, dbias_C, None, None


class BatchNormGelu2d(nn.BatchNorm2d):
    """Batch normalisation over real positions only, then GELU, and zero at the others.

    What a real position becomes, and the running statistics, do not depend on how much padding a batch holds.
    """

    def forward(self, x_BCTD: Tensor, gaps_G: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """`gaps_G`: positions to leave out; None normalises over every position, as nn.BatchNorm2d does.

        In training mode ValueError if there is a single value for each channel.
        """
        if gaps_G is None:
            return F.gelu(super().forward(x_BCTD))
        if not self.training:
            return F.gelu(super().forward(x_BCTD)).index_fill(2, gaps_G, 0)
        if (x_BCTD.shape[2] - len(gaps_G)) * x_BCTD.shape[3] < 2:
            raise ValueError("batch normalisation needs more than one value for each channel")
        y_BCTD: Tensor = _BatchNormGelu.apply(x_BCTD, self.weight, self.bias, gaps_G, self)  # type: ignore[no-untyped-call]
        return y_BCTD

    @torch.no_grad()
    def update(self, mean_C: Tensor, unbiased_var_C: Tensor) -> None:
        """Move the running statistics by one batch."""
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean_C, self.momentum)
        self.running_var.lerp_(unbiased_var_C, self.momentum)


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
        self.norm = BatchNormGelu2d(out_channels)

    def forward(self, x_BCTD: Tensor, gaps_G: Tensor | None) -> Tensor:
        """Zero at the gaps again, for the next layer's kernels."""
        if any(self.extra):
            x_BCTD = F.pad(x_BCTD, self.extra)
        y_BCTD: Tensor = self.norm(self.conv(x_BCTD), gaps_G)
        return y_BCTD


class ConvFront(nn.Module):
    """n × [Conv2d → BatchNorm2d → GELU] to C channels, then a 1×1 convolution back to one (source: released code).

    `over_padding` is the reference code's way: [PAD] embeddings enter the convolutions and the statistics. Otherwise
    padded positions are zero before every convolution and take no part in the statistics.
    """

    def __init__(self, kernel_sizes: Sequence[tuple[int, int]], channels: int, over_padding: bool = False) -> None:
        super().__init__()
        self.over_padding = over_padding
        self.gap = max(positions // 2 for positions, _ in kernel_sizes)
        widths = [1] + [channels] * len(kernel_sizes)
        self.layers = nn.ModuleList(
            ConvLayer(c_in, c_out, kernel)
            for c_in, c_out, kernel in zip(widths[:-1], widths[1:], kernel_sizes, strict=True)
        )
        self.layers.append(ConvLayer(channels, 1, (1, 1)))

    def forward(self, x_RD: Tensor, layout: Layout) -> Tensor:
        """(R, D) embeddings → (R, D), zero where there is padding (unless `over_padding`).

        ValueError if there is padding to go over and the layout has cut it away.
        """
        if self.over_padding:
            if len(layout.rectangles) != 1 or layout.filler:
                raise ValueError("conv_over_padding needs the batch as one rectangle, padding included")
            return self._convolve(x_RD.view(layout.sequences, layout.longest, -1), None).flatten(0, 1)
        rows_N = layout.real_R.nonzero().squeeze(1)
        sequence_N = layout.sequence_of().to(rows_N.device)[rows_N]
        # In training every position has its part in the statistics; in evaluation a few sequences do as well as all.
        at_once = layout.sequences if self.training else max(1, EVALUATED_AT_ONCE // (layout.longest + self.gap))
        sizes = [size for size in torch.bincount(sequence_N // at_once).tolist() if size]
        own_N = torch.split(sequence_N % at_once, sizes)
        pieces = zip(torch.split(x_RD.index_select(0, rows_N), sizes), own_N, strict=True)
        y_ND = torch.cat([self._strip(*piece) for piece in pieces])
        return y_ND.new_zeros(x_RD.shape).index_copy(0, rows_N, y_ND)

    def _strip(self, x_ND: Tensor, sequence_N: Tensor) -> Tensor:
        """(N, D) tokens of the sequences 0, 1, …, one after another → (N, D)."""
        places_N = torch.arange(len(x_ND), device=x_ND.device) + sequence_N * self.gap
        length = int(places_N[-1]) + 1
        length += -length % (1 << max(0, (length // SIZES_AN_OCTAVE).bit_length() - 1))
        gaps_G = torch.ones(length, dtype=torch.bool, device=x_ND.device).index_fill_(0, places_N, False).nonzero()
        strip_SD = x_ND.new_zeros(length, x_ND.shape[1]).index_copy(0, places_N, x_ND)
        return self._convolve(strip_SD[None], gaps_G.squeeze(1))[0].index_select(0, places_N)

    def _convolve(self, x_BTD: Tensor, gaps_G: Tensor | None) -> Tensor:
        # Channels last in memory: these convolutions run two to four times as fast on a CPU. With one channel only
        # the strides tell the two layouts apart, hence the permutation rather than .to(memory_format=...).
        x_BCTD: Tensor = x_BTD.contiguous().unsqueeze(-1).permute(0, 3, 1, 2)
        for layer in self.layers:
            x_BCTD = layer(x_BCTD, gaps_G)
        return x_BCTD.squeeze(1)
