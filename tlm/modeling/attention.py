"""Scaled dot-product attention over the rectangles of a layout.

Shapes: R rows of the keys, M rows of the queries, D hidden size, H heads, K = D / H; in one rectangle: G = count × H
matrices, I queries and J keys of each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tlm.modeling.layout import Layout


class _Block(NamedTuple):
    """One rectangle's slices of the queries, of the keys, and of the attention weights; `masked`: hide padding; `causal`:
    hide what comes later."""

    queries: slice
    keys: slice
    weights: slice
    sequences: int
    masked: bool
    causal: bool


def attention(
    q_MD: Tensor,
    k_RD: Tensor,
    v_RD: Tensor,
    layout: Layout,
    heads: int,
    *,
    each: int | None = None,
    p: float = 0.0,
    causal: bool = False,
) -> Tensor:
    """softmax(q kᵀ / √K) v within each sequence; padding is no key. (M, D).

    Args:
        each: with a number, queries are not the layout's rows but so many of each sequence, M = B · each.
        p: dropout of the weights.
        causal: the keys of a query are the rows of its sequence up to its own, but for rectangles that are seen both ways.
            Padding must follow the tokens, which then never see it; what padding itself sees is of no use.

    Raises ValueError for `causal` with `each`: such queries do not say where they stand.
    """
    if causal and each is not None:
        raise ValueError("causal attention has the layout's rows as queries")
    if written_out(q_MD.device.type):
        context_MD: Tensor = _CpuAttention.apply(q_MD, k_RD, v_RD, layout, heads, each, p, causal)  # type: ignore[no-untyped-call]
        return context_MD
    parts = []
    for block in _blocks(layout, heads, each, causal):
        q, k, v = (
            x[part].view(block.sequences, -1, heads, x.shape[1] // heads).transpose(1, 2)
            for x, part in ((q_MD, block.queries), (k_RD, block.keys), (v_RD, block.keys))
        )
        mask = layout.real_R[block.keys].view(block.sequences, 1, 1, -1) if block.masked else None
        context = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p, is_causal=block.causal)
        parts.append(context.transpose(1, 2).flatten(2).flatten(0, 1))
    done = sum(map(len, parts))
    return torch.cat([*parts, q_MD.new_zeros(len(q_MD) - done, q_MD.shape[1])])


def written_out(device: str) -> bool:
    """Whether attention is computed by `_CpuAttention`: on a CPU. On a GPU torch's fused kernels are better."""
    return device == "cpu"


def _blocks(layout: Layout, heads: int, each: int | None, causal: bool) -> Iterator[_Block]:
    query = key = weight = 0
    for rectangle in layout.rectangles:
        queries = rectangle.sequences * (rectangle.length if each is None else each)
        weights = queries * rectangle.length * heads
        later = causal and not rectangle.both_ways
        yield _Block(
            slice(query, query + queries),
            slice(key, key + rectangle.rows),
            slice(weight, weight + weights),
            rectangle.sequences,
            rectangle.masked and not later,
            later,
        )
        query, key, weight = query + queries, key + rectangle.rows, weight + weights


class _CpuAttention(torch.autograd.Function):
    """Written out, because torch's fused CPU attention is slow backwards, and slower still with dropout.

    Each rectangle's weights fit a processor cache, and stay there from the first product to the last.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q_MD: Tensor,
        k_RD: Tensor,
        v_RD: Tensor,
        layout: Layout,
        heads: int,
        each: int | None,
        p: float,
        causal: bool,
    ) -> Tensor:
        ctx.blocks, ctx.heads, ctx.p = list(_blocks(layout, heads, each, causal)), heads, p
        total = ctx.blocks[-1].weights.stop
        out_MD = torch.empty_like(q_MD, memory_format=torch.contiguous_format)
        out_MD[ctx.blocks[-1].queries.stop :] = 0
        kept = torch.empty(total, dtype=torch.bool).bernoulli_(1 - p) if p else None
        needs_grad = any(ctx.needs_input_grad)
        weights = q_MD.new_empty(total) if needs_grad else None
        scale = 1 / math.sqrt(q_MD.shape[1] // heads)
        for block in ctx.blocks:
            q_GIK, k_GJK, v_GJK = (
                _by_head(x, rows, block.sequences, heads)
                for x, rows in ((q_MD, block.queries), (k_RD, block.keys), (v_RD, block.keys))
            )
            scores_GIJ = (q_GIK @ k_GJK.transpose(1, 2)).mul_(scale)
            if block.causal:
                scores_GIJ.masked_fill_(_later(scores_GIJ), torch.finfo(scores_GIJ.dtype).min)
            if block.masked:
                padding_C11J = ~layout.real_R[block.keys].view(block.sequences, 1, 1, -1)
                per_head = scores_GIJ.view(block.sequences, heads, *scores_GIJ.shape[1:])
                per_head.masked_fill_(padding_C11J, torch.finfo(scores_GIJ.dtype).min)
            w_GIJ = weights[block.weights].view(scores_GIJ.shape) if weights is not None else scores_GIJ
            torch.softmax(scores_GIJ, -1, out=w_GIJ)
            if kept is not None:
                w_GIJ = w_GIJ * _scales(kept[block.weights], w_GIJ, p)
            _write(out_MD, block.queries, w_GIJ @ v_GJK, block.sequences)
        if needs_grad:
            ctx.save_for_backward(q_MD, k_RD, v_RD, weights, *([] if kept is None else [kept]))
        return out_MD

    @staticmethod
    def backward(ctx: Any, grad_MD: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        q_MD, k_RD, v_RD, weights, *kept = ctx.saved_tensors
        dq_MD, dk_RD, dv_RD = (torch.zeros_like(x, memory_format=torch.contiguous_format) for x in (q_MD, k_RD, v_RD))
        heads = ctx.heads
        scale = 1 / math.sqrt(q_MD.shape[1] // heads)
        for block in ctx.blocks:
            g_GIK, q_GIK, k_GJK, v_GJK = (
                _by_head(x, rows, block.sequences, heads)
                for x, rows in (
                    (grad_MD, block.queries),
                    (q_MD, block.queries),
                    (k_RD, block.keys),
                    (v_RD, block.keys),
                )
            )
            w_GIJ = weights[block.weights].view(g_GIK.shape[0], g_GIK.shape[1], k_GJK.shape[1])
            dw_GIJ = g_GIK @ v_GJK.transpose(1, 2)
            dropped_GIJ = w_GIJ
            if kept:
                scales_GIJ = _scales(kept[0][block.weights], w_GIJ, ctx.p)
                dropped_GIJ = w_GIJ * scales_GIJ
                dw_GIJ.mul_(scales_GIJ)
            _write(dv_RD, block.keys, dropped_GIJ.transpose(1, 2) @ g_GIK, block.sequences)
            ds_GIJ = torch.ops.aten._softmax_backward_data(dw_GIJ, w_GIJ, -1, w_GIJ.dtype).mul_(scale)
            _write(dq_MD, block.queries, ds_GIJ @ k_GJK, block.sequences)
            _write(dk_RD, block.keys, ds_GIJ.transpose(1, 2) @ q_GIK, block.sequences)
        return dq_MD, dk_RD, dv_RD, None, None, None, None, None


def _by_head(x_RD: Tensor, rows: slice, sequences: int, heads: int) -> Tensor:
    """(sequences · length, D) → (sequences · H, length, K); no copy for a single sequence."""
    size = x_RD.shape[1]
    return x_RD[rows].view(sequences, -1, heads, size // heads).transpose(1, 2).flatten(0, 1)


def _write(out_RD: Tensor, rows: slice, x_GIK: Tensor, sequences: int) -> None:
    """The reverse of `_by_head`, into its place."""
    target = out_RD[rows].view(sequences, x_GIK.shape[1], -1, x_GIK.shape[2])
    target.copy_(x_GIK.view(sequences, -1, *x_GIK.shape[1:]).transpose(1, 2))


def _later(scores_GIJ: Tensor) -> Tensor:
    """A mask (I, J), True where the key comes after the query."""
    return torch.ones(scores_GIJ.shape[1:], dtype=torch.bool).triu_(1)


def _scales(kept: Tensor, like: Tensor, p: float) -> Tensor:
    """1 / (1 - p) where a weight is kept, else 0; of the shape and type of `like`."""
    return kept.view(like.shape).to(like.dtype).mul_(1 / (1 - p) if p < 1 else 0.0)
