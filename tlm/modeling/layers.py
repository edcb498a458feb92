"""What a BERT encoder's layers are made of: attention, feed-forward network, and what is normalised where. Other families
take from it what they have in common with it.

Shapes: R rows of a batch in its layout, N queried rows, M rows of either, D hidden size, H heads of width K, A = H·K,
which is D unless an architecture says otherwise.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tlm.modeling.attention import attention
from tlm.modeling.configuration import TinyBertConfig, TinyLlamaConfig
from tlm.modeling.layout import Layout, Queries

Rotation = tuple[Tensor, Tensor]
"""Cosine and sine of each row's angles, (R, 1, K / 2)."""


class _RmsNorm(torch.autograd.Function):
    """Written out, because torch's takes two to three times as long on a CPU."""

    @staticmethod
    def forward(ctx: Any, x_MD: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        x_MD = x_MD.float()
        scale_M1 = (
            torch.linalg.vector_norm(x_MD, dim=-1, keepdim=True).square_().div_(x_MD.shape[-1]).add_(eps).rsqrt_()
        )
        ctx.save_for_backward(x_MD, weight_D, scale_M1)
        return (x_MD * scale_M1).mul_(weight_D)

    @staticmethod
    def backward(ctx: Any, grad_MD: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        x_MD, weight_D, scale_M1 = ctx.saved_tensors
        normed_MD = x_MD * scale_M1
        product_MD = grad_MD * normed_MD
        grad_weight_D = product_MD.sum(dim=tuple(range(product_MD.ndim - 1)))
        inner_M1 = (product_MD @ weight_D).div_(x_MD.shape[-1]).unsqueeze(-1)
        grad_x_MD = (grad_MD * weight_D).addcmul_(normed_MD, inner_M1, value=-1).mul_(scale_M1)
        return grad_x_MD, grad_weight_D, None


class RmsNorm(nn.RMSNorm):
    """torch's, in float32 whatever its input (Zhang and Sennrich 2019, arXiv 1910.07467)."""

    def forward(self, x: Tensor) -> Tensor:
        """(…, D) → (…, D)."""
        y: Tensor = _RmsNorm.apply(x, self.weight, self.eps)  # type: ignore[no-untyped-call]
        return y


def norm_of(config: TinyBertConfig | TinyLlamaConfig) -> nn.Module:
    """A normalisation of the kind that the model has."""
    if config.norm == "rms_norm":
        return RmsNorm(config.hidden_size, eps=config.layer_norm_eps)
    return nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps, bias=config.bias)


def rotation(config: TinyBertConfig, layout: Layout) -> Rotation | None:
    """Of every row by its position (RoPE: Su et al. 2021, arXiv 2104.09864); None for a model that learns positions."""
    if config.position_embedding_type != "rope":
        return None
    return turn_of(layout, config.head_width, config.rope_theta)


def turn_of(layout: Layout, head_size: int, theta: float) -> Rotation:
    """The rotation of every row by its position, for heads of that size."""
    half = head_size // 2
    exponents = torch.arange(half, device=layout.positions_R.device) / half
    angles_R1K = (layout.positions_R[:, None] * theta**-exponents)[:, None]
    return angles_R1K.cos(), angles_R1K.sin()


def rotated(x_MD: Tensor, turn: Rotation | None, heads: int) -> Tensor:
    """Queries or keys, of each head the i-th element of the first half and of the second turned by the i-th angle."""
    if turn is None:
        return x_MD
    cos, sin = (each.to(x_MD.dtype) for each in turn)
    a, b = x_MD.view(len(x_MD), heads, 2, -1).unbind(2)
    return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=2).view(x_MD.shape)


class SelfAttention(nn.Module):
    """Multi-head scaled dot-product attention."""

    def __init__(self, config: TinyBertConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        inner = self.heads * config.head_width
        self.query = nn.Linear(config.hidden_size, inner, bias=config.bias)
        self.key = nn.Linear(config.hidden_size, inner, bias=config.bias)
        self.value = nn.Linear(config.hidden_size, inner, bias=config.bias)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def forward(self, x_RD: Tensor, layout: Layout, queries: Queries | None, turn: Rotation | None) -> Tensor:
        """(R, D) → the context of every row (R, A), or of the rows that are queried (N, A)."""
        p = self.dropout.p if self.training else 0.0
        if queries is None:
            q_RD, k_RD, v_RD = projections(x_RD, self.query, self.key, self.value)
            q_RD, k_RD = (rotated(each, turn, self.heads) for each in (q_RD, k_RD))
            return attention(q_RD, k_RD, v_RD, layout, self.heads, p=p)
        k_RD, v_RD = projections(x_RD, self.key, self.value)
        q_ND = self.query(x_RD.index_select(0, queries.rows_N))
        if turn is not None:
            k_RD = rotated(k_RD, turn, self.heads)
            cos, sin = (each.index_select(0, queries.rows_N) for each in turn)
            q_ND = rotated(q_ND, (cos, sin), self.heads)
        q_SD = q_ND.index_select(0, queries.slots_S)
        context_SD = attention(q_SD, k_RD, v_RD, layout, self.heads, each=queries.each, p=p)
        return context_SD.index_select(0, queries.kept_N)


def projections(x: Tensor, *modules: nn.Linear) -> tuple[Tensor, ...]:
    """Several linear maps of the same input as one product."""
    weight = torch.cat([module.weight for module in modules])
    bias = torch.cat([module.bias for module in modules]) if modules[0].bias is not None else None
    return torch.split(F.linear(x, weight, bias), [module.out_features for module in modules], dim=-1)


class AddNorm(nn.Module):
    """dense → dropout → add the residual → normalisation."""

    def __init__(self, config: TinyBertConfig, in_features: int) -> None:
        super().__init__()
        self.dense = nn.Linear(in_features, config.hidden_size, bias=config.bias)
        self.LayerNorm = norm_of(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """(…, in_features) and (…, D) → (…, D)."""
        y: Tensor = self.LayerNorm(residual + self.dropout(self.dense(x)))
        return y


class Layer(nn.Module):
    """One transformer layer: attention, then the feed-forward network, each with a residual, then normalised."""

    def __init__(self, config: TinyBertConfig) -> None:
        super().__init__()
        self.attention = nn.ModuleDict(
            {"self": SelfAttention(config), "output": AddNorm(config, config.num_attention_heads * config.head_width)},
        )
        self.intermediate = nn.ModuleDict(
            {"dense": nn.Linear(config.hidden_size, config.intermediate_size, bias=config.bias)}
        )
        self.output = AddNorm(config, config.intermediate_size)

    def forward(
        self, x_RD: Tensor, layout: Layout, queries: Queries | None = None, turn: Rotation | None = None
    ) -> Tensor:
        """(R, D) → (R, D), or (N, D), only the rows that are queried.

        In the last layer the rows that no head reads need neither queries nor the feed-forward network. With one layer
        that is most of the model.
        """
        context = self.attention["self"](x_RD, layout, queries, turn)
        x = x_RD if queries is None else x_RD.index_select(0, queries.rows_N)
        x = self.attention["output"](context, x)
        y: Tensor = self.output(F.gelu(self.intermediate["dense"](x)), x)
        return y


class Add(nn.Module):
    """dense → dropout → add the residual."""

    def __init__(self, config: TinyBertConfig, in_features: int) -> None:
        super().__init__()
        self.dense = nn.Linear(in_features, config.hidden_size, bias=config.bias)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """(…, in_features) and (…, D) → (…, D)."""
        y: Tensor = residual + self.dropout(self.dense(x))
        return y


class PreNormLayer(nn.Module):
    """A layer that normalises what attention and feed-forward network read (Xiong et al. 2020, arXiv 2002.04745).

    The residual stream itself is never normalised: gradients reach the first layer as they leave the last.
    """

    def __init__(self, config: TinyBertConfig) -> None:
        super().__init__()
        self.attention = nn.ModuleDict(
            {
                "LayerNorm": norm_of(config),
                "self": SelfAttention(config),
                "output": Add(config, config.num_attention_heads * config.head_width),
            }
        )
        self.intermediate = nn.ModuleDict(
            {
                "LayerNorm": norm_of(config),
                "dense": nn.Linear(config.hidden_size, config.intermediate_size, bias=config.bias),
            }
        )
        self.output = Add(config, config.intermediate_size)

    def forward(
        self, x_RD: Tensor, layout: Layout, queries: Queries | None = None, turn: Rotation | None = None
    ) -> Tensor:
        """As `Layer.forward`."""
        context = self.attention["self"](self.attention["LayerNorm"](x_RD), layout, queries, turn)
        x = x_RD if queries is None else x_RD.index_select(0, queries.rows_N)
        x = self.attention["output"](context, x)
        wide = F.gelu(self.intermediate["dense"](self.intermediate["LayerNorm"](x)))
        y: Tensor = self.output(wide, x)
        return y
