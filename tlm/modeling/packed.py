"""A BERT encoder over sequences that lie one after another, in tensors whose shapes never change from batch to batch.

A CUDA graph replays launches with the shapes it was captured with. So a batch is padded to a size that was agreed before:
rows that no sequence needs belong to filler sequences of their own, and queries that nobody asked for have no label. Every
row belongs to exactly one sequence, whichever it is: nothing is left unwritten, and nothing real sees a filler.

The computation is `TinyBertModel`'s, on its parameters; `tests/training/test_captured.py` holds both to the same numbers.
Products are computed in the weights' dtype; residuals and normalisation in float32, as under autocast.

Shapes: S sequences, fillers included, R rows, N queried rows, D hidden size, H heads, K = D / H, V vocabulary, L labels;
T positions of the longest sequence; S1 = S + 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tlm.modeling.loss import IGNORED_LABEL

Attention = Literal["rectangle", "varlen"]
"""rectangle: torch's scaled dot-product attention over (S, T), padding masked, on any device. varlen: torch's flash
attention over the rows as they lie, on a GPU and in half precision only."""


@dataclass(frozen=True)
class Form:
    """What a model and its batches have in common, once and for all. `hidden_p`, `attention_p`: dropout."""

    heads: int
    longest: int
    hidden_p: float
    attention_p: float
    eps: float
    attention: Attention = "rectangle"

    def without_dropout(self) -> Form:
        return Form(self.heads, self.longest, 0.0, 0.0, self.eps, self.attention)


class LayerWeights(NamedTuple):
    """One transformer layer; the three projections of the attention are one matrix (3 D, D): queries, keys, values."""

    qkv: Tensor
    qkv_bias: Tensor
    out: Tensor
    out_bias: Tensor
    up: Tensor
    up_bias: Tensor
    down: Tensor
    down_bias: Tensor
    norm1: Tensor
    norm1_bias: Tensor
    norm2: Tensor
    norm2_bias: Tensor


class MaskedHead(NamedTuple):
    """BERT's head of masked language modelling; `words` (V, D) are the word embeddings."""

    dense: Tensor
    dense_bias: Tensor
    bias_V: Tensor
    norm: Tensor
    norm_bias: Tensor
    words_VD: Tensor


class ClassifierHead(NamedTuple):
    """The pooler and the linear classifier."""

    dense: Tensor
    dense_bias: Tensor
    classifier: Tensor
    classifier_bias: Tensor


class Spans(NamedTuple):
    """Where the sequences lie. `starts_S1`: the first row of each, and R; `queries_S1`: of each, in the queries. int32.

    A sequence has one row and one query at least, and T at most of either.
    """

    starts_S1: Tensor
    queries_S1: Tensor


LayerFunction = Callable[[Tensor, LayerWeights, Spans], Tensor]
LastLayerFunction = Callable[[Tensor, LayerWeights, Spans, Tensor], Tensor]


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear map in the weight's dtype."""
    return F.linear(x.to(weight.dtype), weight, bias)


def normed(x_RD: Tensor, weight: Tensor, bias: Tensor, form: Form) -> Tensor:
    """LayerNorm in float32."""
    return F.layer_norm(x_RD.float(), x_RD.shape[-1:], weight, bias, form.eps)


def embedded(x_RD: Tensor, norm: Tensor, norm_bias: Tensor, form: Form) -> Tensor:
    """What follows the sum of the embeddings: LayerNorm, dropout. (R, D) float32."""
    return F.dropout(normed(x_RD, norm, norm_bias, form), form.hidden_p)


def layer(x_RD: Tensor, w: LayerWeights, spans: Spans, form: Form) -> Tensor:
    """One transformer layer: (R, D) → (R, D), float32."""
    rows, size = x_RD.shape
    qkv_RPHK = linear(x_RD, w.qkv, w.qkv_bias).view(rows, 3, form.heads, size // form.heads)
    q_RHK, k_RHK, v_RHK = qkv_RPHK.unbind(1)
    context_RHK = attend(q_RHK, k_RHK, v_RHK, Spans(spans.starts_S1, spans.starts_S1), form)
    return _after_attention(context_RHK.reshape(rows, size), x_RD, w, form)


def last_layer(x_RD: Tensor, w: LayerWeights, spans: Spans, rows_N: Tensor, form: Form) -> Tensor:
    """The last layer for the rows that a head reads: (R, D) → (N, D), float32."""
    rows, size = x_RD.shape
    x_ND = x_RD.index_select(0, rows_N)
    q_NHK = linear(x_ND, w.qkv[:size], w.qkv_bias[:size]).view(-1, form.heads, size // form.heads)
    kv = linear(x_RD, w.qkv[size:], w.qkv_bias[size:]).view(rows, 2, form.heads, size // form.heads)
    k_RHK, v_RHK = kv.unbind(1)
    context_NHK = attend(q_NHK, k_RHK, v_RHK, spans, form)
    return _after_attention(context_NHK.reshape(-1, size), x_ND, w, form)


def _after_attention(context_RD: Tensor, x_RD: Tensor, w: LayerWeights, form: Form) -> Tensor:
    attended_RD = F.dropout(linear(context_RD, w.out, w.out_bias), form.hidden_p)
    x_RD = normed(x_RD + attended_RD, w.norm1, w.norm1_bias, form)
    fed_RD = linear(F.gelu(linear(x_RD, w.up, w.up_bias)), w.down, w.down_bias)
    return normed(x_RD + F.dropout(fed_RD, form.hidden_p), w.norm2, w.norm2_bias, form)


def masked_loss(x_ND: Tensor, head: MaskedHead, labels_N: Tensor, scale: Tensor, form: Form) -> Tensor:
    """`scale` times the sum of the cross entropies of queries that have a label (IGNORED_LABEL: none)."""
    x_ND = normed(F.gelu(linear(x_ND, head.dense, head.dense_bias)), head.norm, head.norm_bias, form)
    logits_NV = linear(x_ND, head.words_VD, head.bias_V).float()
    return F.cross_entropy(logits_NV, labels_N, ignore_index=IGNORED_LABEL, reduction="sum") * scale


def class_logits(x_SD: Tensor, head: ClassifierHead, form: Form) -> Tensor:
    """Logits (S, L), float32, of position 0 of every sequence."""
    pooled_SD = F.dropout(torch.tanh(linear(x_SD, head.dense, head.dense_bias)), form.hidden_p)
    return linear(pooled_SD, head.classifier, head.classifier_bias).float()


def class_loss(x_SD: Tensor, head: ClassifierHead, labels_S: Tensor, scale: Tensor, form: Form) -> Tensor:
    """`scale` times the sum of the cross entropies of sequences that have a label."""
    logits_SL = class_logits(x_SD, head, form)
    return F.cross_entropy(logits_SL, labels_S, ignore_index=IGNORED_LABEL, reduction="sum") * scale


def attend(q_NHK: Tensor, k_RHK: Tensor, v_RHK: Tensor, spans: Spans, form: Form) -> Tensor:
    """softmax(q kᵀ / √K) v within each sequence: (N, H, K)."""
    if form.attention == "varlen":
        context_NHK: Tensor = torch.ops.aten._flash_attention_forward(
            q_NHK,
            k_RHK,
            v_RHK,
            spans.queries_S1,
            spans.starts_S1,
            form.longest,
            form.longest,
            form.attention_p,
            False,
            False,
        )[0]
        return context_NHK
    keys_ST, real_ST = _rectangle(spans.starts_S1, form.longest)
    queries_ST, _ = _rectangle(spans.queries_S1, form.longest)
    q, k, v = (
        x.index_select(0, places_ST.flatten()).view(*places_ST.shape, *x.shape[1:]).transpose(1, 2)
        for x, places_ST in ((q_NHK, queries_ST), (k_RHK, keys_ST), (v_RHK, keys_ST))
    )
    context = F.scaled_dot_product_attention(q, k, v, attn_mask=real_ST[:, None, None], dropout_p=form.attention_p)
    context_QHK = context.transpose(1, 2).flatten(0, 1)
    return context_QHK.index_select(0, _slots(spans.queries_S1, len(q_NHK), form.longest))


def _rectangle(starts_S1: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """For each place of a rectangle (S, T) its row (past a sequence's end, any), and whether it is the sequence's."""
    column_T = torch.arange(longest, device=starts_S1.device)
    rows_ST = starts_S1[:-1, None] + column_T
    inside_ST = rows_ST < starts_S1[1:, None]
    return torch.where(inside_ST, rows_ST, 0), inside_ST


def _slots(starts_S1: Tensor, rows: int, longest: int) -> Tensor:
    """For each row its place in the flattened rectangle."""
    row_R = torch.arange(rows, device=starts_S1.device, dtype=starts_S1.dtype)
    sequence_R = torch.searchsorted(starts_S1[1:], row_R, right=True)
    return sequence_R * longest + row_R - starts_S1[sequence_R]
