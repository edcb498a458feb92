"""A step of `tlm.modeling.packed`'s models whose gradients are written out by hand, on `tlm.modeling.kernels`.

What autograd and a compiler leave on the table: gradients are written where AdamW reads them, not copied there; queries,
keys and values have one gradient, not three to be stacked; sums for biases are by-products; attention keeps a sequence in a
tile; and there is nothing to compile but a dozen kernels.

Shapes: S sequences, R rows, N queries, D hidden size, E intermediate size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tlm.modeling import kernels
from tlm.modeling.kernels import Extent, Noise, Normed, Projected, Tables
from tlm.modeling.packed import ClassifierHead, Form, LayerWeights, MaskedHead, Spans, class_loss, linear, normed

Gradient = tuple[Tensor, Tensor | None]
"""Of rows, in one or two summands: float32, and in the dtype of products."""


class Where(NamedTuple):
    """Of a step: what each row is, and what of it is asked for."""

    ids_R: Tensor
    positions_R: Tensor
    rows_N: Tensor
    labels_N: Tensor
    spans: Spans
    scale: Tensor
    step_1: Tensor
    """Its number, int32."""


@dataclass
class _Passed:
    """What a layer's forward pass leaves for the backward pass."""

    x: Normed
    of_queries: Normed
    """The rows that are asked for: `x` itself but in the last layer."""
    projected: Projected
    extent: Extent
    context_ND: Tensor
    logsums_HN: Tensor
    attended_ND: Tensor
    middle: Normed
    up_NE: Tensor
    active_NE: Tensor
    fed_ND: Tensor
    out: Normed


@dataclass
class FusedStep:
    """Forward and backward. `*_targets` are where the gradients of the weights beside them belong.

    `update` is called for each layer, and for the head as number -1, once its gradients are complete. `beside`: a stream
    for products that nothing waits for but AdamW, and for AdamW.
    """

    form: Form
    tables: Tables
    table_targets: Tables
    layers: list[LayerWeights]
    layer_targets: list[LayerWeights]
    head: MaskedHead | ClassifierHead
    head_targets: MaskedHead | ClassifierHead
    pad: int
    seed_1: Tensor
    update: Callable[[int, Tensor], None]
    beside: Any = None

    def __post_init__(self) -> None:
        self._alive: list[Any] = []
        self.dtype = self.layers[0].qkv.dtype

    @torch.no_grad()
    def step(self, at: Where, numbers: Tensor) -> Tensor:
        """Write all gradients, call `update` on the way, and return the loss."""
        noise = self._noise(at, 0, self.form.hidden_p)
        x = kernels.embed(at.ids_R, at.positions_R, self.tables, self.dtype, self.form.eps, noise)
        start, passed = x, []
        for number in range(len(self.layers)):
            passed.append(self._forward(number, x, at))
            x = passed[-1].out
        loss, later = (self._masked_head if isinstance(self.head, MaskedHead) else self._class_head)(x, at)
        gradient: Gradient = (later(), None)
        self._update(-1, numbers)
        for number in reversed(range(len(self.layers))):
            gradient = self._backward(number, passed[number], gradient, at)
            self._update(number, numbers)
        if self.beside is not None:
            torch.cuda.current_stream().wait_stream(self.beside)
        self._embedding_gradient(start, gradient, at, noise)
        self._alive.clear()
        return loss

    def _noise(self, at: Where, site: int, p: float) -> Noise:
        return Noise(self.seed_1, at.step_1, site, p)

    @contextmanager
    def _aside(self, *used: Any) -> Iterator[None]:
        """On the other stream, if there is one. What is `used` there must not be given back before the streams join."""
        if self.beside is None:
            yield
            return
        self._alive.append(used)
        self.beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.beside):
            yield

    def _update(self, number: int, numbers: Tensor) -> None:
        with self._aside():
            self.update(number, numbers)

    # --- layers ---

    def _forward(self, number: int, x: Normed, at: Where) -> _Passed:
        w, form = self.layers[number], self.form
        projected, of_queries, extent = self._project(number, x, at)
        noise = [self._noise(at, 1 + 3 * number + i, p) for i, p in enumerate(self._chances)]
        context, logsums = kernels.attention(projected, extent, noise[0])
        attended = F.linear(context, w.out, w.out_bias)
        middle = kernels.norm(of_queries.wide_RD, attended, w.norm1, w.norm1_bias, form.eps, noise[1])
        up = F.linear(middle.narrow_RD, w.up, w.up_bias)
        active = kernels.gelu(up)
        fed = F.linear(active, w.down, w.down_bias)
        out = kernels.norm(middle.wide_RD, fed, w.norm2, w.norm2_bias, form.eps, noise[2])
        return _Passed(x, of_queries, projected, extent, context, logsums, attended, middle, up, active, fed, out)

    @property
    def _chances(self) -> tuple[float, float, float]:
        return self.form.attention_p, self.form.hidden_p, self.form.hidden_p

    def _project(self, number: int, x: Normed, at: Where) -> tuple[Projected, Normed, Extent]:
        """Queries, keys and values; the last layer has queries of the rows that the head reads only."""
        w, size = self.layers[number], x.wide_RD.shape[1]
        starts, longest, heads = at.spans.starts_S1, self.form.longest, self.form.heads
        if number + 1 < len(self.layers):
            q, k, v = torch.split(F.linear(x.narrow_RD, w.qkv, w.qkv_bias), size, 1)
            return Projected(q, k, v), x, Extent(starts, starts, longest, heads)
        asked = Normed(*(each.index_select(0, at.rows_N) for each in x))
        q = F.linear(asked.narrow_RD, w.qkv[:size], w.qkv_bias[:size])
        k, v = torch.split(F.linear(x.narrow_RD, w.qkv[size:], w.qkv_bias[size:]), size, 1)
        return Projected(q, k, v), asked, Extent(at.spans.queries_S1, starts, longest, heads)

    def _backward(self, number: int, passed: _Passed, gradient: Gradient, at: Where) -> Gradient:
        w, t = self.layers[number], self.layer_targets[number]
        noise = [self._noise(at, 1 + 3 * number + i, p) for i, p in enumerate(self._chances)]
        residual, own, sums = kernels.norm_gradient(
            *gradient, passed.middle.wide_RD, passed.fed_ND, w.norm2, passed.out, noise[2]
        )
        with self._aside(own, sums, passed):
            kernels.sum_thirds(sums, t.norm2, t.norm2_bias, t.down_bias)
            product_into(t.down, own.t(), passed.active_NE)
        own, sums = kernels.gelu_gradient(own @ w.down, passed.up_NE)
        with self._aside(own, sums):
            kernels.sum_rows(sums, t.up_bias)
            product_into(t.up, own.t(), passed.middle.narrow_RD)
        residual, own, sums = kernels.norm_gradient(
            residual, own @ w.up, passed.of_queries.wide_RD, passed.attended_ND, w.norm1, passed.middle, noise[1]
        )
        with self._aside(own, sums):
            kernels.sum_thirds(sums, t.norm1, t.norm1_bias, t.out_bias)
            product_into(t.out, own.t(), passed.context_ND)
        return self._attention_gradient(number, passed, own @ w.out, residual, at, noise[0])

    def _attention_gradient(
        self, number: int, passed: _Passed, own: Tensor, residual: Tensor, at: Where, noise: Noise
    ) -> Gradient:
        w, t, size = self.layers[number], self.layer_targets[number], own.shape[1]
        last = number + 1 == len(self.layers)
        rows, narrow = passed.x.wide_RD.shape[0], passed.x.narrow_RD
        if last:
            to_q = torch.empty_like(passed.projected.q_ND)
            to_kv = own.new_empty(rows, 2 * size)
            to = Projected(to_q, *torch.split(to_kv, size, 1))
        else:
            whole = own.new_empty(rows, 3 * size)
            to = Projected(*torch.split(whole, size, 1))
        sums = kernels.attention_gradient(own, passed.projected, passed.logsums_HN, to, passed.extent, noise)
        if not last:
            with self._aside(whole, sums):
                kernels.sum_rows(sums, t.qkv_bias)
                product_into(t.qkv, whole.t(), narrow)
            return residual, whole @ w.qkv
        with self._aside(to_q, to_kv, sums):
            kernels.sum_rows(sums, t.qkv_bias)
            product_into(t.qkv[:size], to_q.t(), passed.of_queries.narrow_RD)
            product_into(t.qkv[size:], to_kv.t(), narrow)
        asked = residual + to_q @ w.qkv[:size]
        spread = torch.zeros_like(passed.x.wide_RD).index_add_(0, at.rows_N, asked)
        return spread, to_kv @ w.qkv[size:]

    # --- heads ---

    def _masked_head(self, x: Normed, at: Where) -> tuple[Tensor, Callable[[], Tensor]]:
        head, t = self.head, self.head_targets
        assert isinstance(head, MaskedHead) and isinstance(t, MaskedHead)
        entry = x.narrow_RD.detach().requires_grad_()
        with torch.enable_grad():
            wide = normed(F.gelu(linear(entry, head.dense, head.dense_bias)), head.norm, head.norm_bias, self.form)
            hidden = wide.to(self.dtype)
        logits = F.linear(hidden.detach(), head.words_VD, head.bias_V)
        loss = kernels.cross_entropy(logits, at.labels_N, at.scale)

        def backward() -> Tensor:
            with self._aside(logits, hidden):
                product_into(t.words_VD, logits.t(), hidden.detach())
                kernels.sum_rows(logits, t.bias_V)
            own = (head.dense, head.dense_bias, head.norm, head.norm_bias)
            grads = torch.autograd.grad(hidden, (entry, *own), logits @ head.words_VD)
            for target, grad in zip((t.dense, t.dense_bias, t.norm, t.norm_bias), grads[1:], strict=True):
                target.copy_(grad)
            return grads[0].float()

        return loss, backward

    def _class_head(self, x: Normed, at: Where) -> tuple[Tensor, Callable[[], Tensor]]:
        head, t = self.head, self.head_targets
        assert isinstance(head, ClassifierHead)
        entry = x.wide_RD.detach().requires_grad_()
        with torch.enable_grad():
            loss = class_loss(entry, head, at.labels_N, at.scale, self.form)

        def backward() -> Tensor:
            grads = torch.autograd.grad(loss, (entry, *head))
            for target, grad in zip(t, grads[1:], strict=True):
                target.copy_(grad)
            self.table_targets.words.zero_()
            return grads[0]

        return loss.detach(), backward

    # --- embeddings ---

    def _embedding_gradient(self, start: Normed, gradient: Gradient, at: Where, noise: Noise) -> None:
        wide, narrow = gradient
        assert narrow is not None
        t = self.table_targets
        t.positions.zero_()
        sums = kernels.embed_gradient(
            (wide, narrow), at.ids_R, at.positions_R, self.tables, start, t.words, t.positions, self.pad, noise
        )
        kernels.sum_thirds(sums, t.norm, t.norm_bias, t.types[0])


def product_into(target: Tensor, left: Tensor, right: Tensor) -> None:
    """left @ right, written to `target`; where products can widen, summed in float32 and rounded to its dtype once."""
    if target.dtype == left.dtype:
        torch.mm(left, right, out=target)
    elif _widens(target.device):
        torch.ops.aten.mm.dtype_out(left, right, target.dtype, out=target)
    else:
        target.copy_(left @ right)


@cache
def _widens(device: torch.device) -> bool:
    """Whether bfloat16 products with a result in float32 are known here: on GPUs, by torch of some age."""
    ones = torch.ones(16, 16, dtype=torch.bfloat16, device=device)
    wide = torch.zeros(16, 16, device=device)
    try:
        torch.ops.aten.mm.dtype_out(ones, ones, torch.float32, out=wide)
    except (RuntimeError, AttributeError):
        return False
    return bool((wide == 16).all())
