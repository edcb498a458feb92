# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call"
"""What a training step does between its matrix products, in Triton: each kernel is one pass over memory.

For `tlm.training.fused`. Gradients are derived by hand, `tests/training/test_fused.py` holds them to autograd's. Arithmetic
is float32; tensors come and go in the dtype they have. Dropout needs no mask in memory: whether an element is kept follows
from the run's seed, the step, the place in the model and the element's index, forwards and backwards.

With TRITON_INTERPRET=1 the kernels run on a CPU, slowly.

Shapes: R rows, D their width, S sequences, N queries, H heads, K = D / H, V vocabulary, P partial sums.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

LN2 = tl.constexpr(0.6931471805599453)
LOG2E = 1.4426950408889634


ROWS_AT_ONCE = 8
"""Rows whose gradient of LayerNorm one program takes, one block after another."""


def _tuned(*configs: tuple[dict[str, int], int, int | None]) -> Any:
    """Blocks, warps, and most registers of a thread: the fastest, measured at a kernel's first launch on a GPU.

    A kernel that is measured runs several times: what it reads it must not write.
    """
    made = [triton.Config(blocks, num_warps=warps, num_stages=1, maxnreg=most) for blocks, warps, most in configs]
    return triton.autotune(configs=made[:1] if triton.knobs.runtime.interpret else made, key=[])


class Noise(NamedTuple):
    """What dropout at one place follows from. `seed_1`, `step_1`: int32 on the device; `site`: the place's number."""

    seed_1: Tensor
    step_1: Tensor
    site: int
    p: float

    @property
    def threshold(self) -> int:
        """Of 24 random bits: below it an element is dropped."""
        return round(self.p * (1 << 24))

    @property
    def scale(self) -> float:
        return 1 / (1 - self.p)


@triton.jit
def _mixed(x):
    """A bijection of 32 bits in which every bit of x moves about half of the others (Ellis' lowbias32)."""
    x ^= x >> 16
    x *= 0x7FEB352D
    x ^= x >> 15
    x *= 0x846CA68B
    x ^= x >> 16
    return x


@triton.jit
def _key(seed, step, site):
    own = _mixed(tl.load(seed).to(tl.uint32) * 0x9E3779B1 + 0x7F4A7C15)
    own = _mixed(own + tl.load(step).to(tl.uint32) * 0x85EBCA6B)
    return _mixed(own + site.to(tl.uint32) * 0x27D4EB2F)


@triton.jit
def _kept(index, key, threshold):
    x = index.to(tl.uint32) * 0x9E3779B1 + key
    x ^= x >> 15
    x *= 0x2C1B3C6D
    x ^= (key >> 7) ^ (key << 11)
    x ^= x >> 12
    x *= 0x297A2D39
    x ^= x >> 15
    return (x >> 8).to(tl.int32) >= threshold


# --- LayerNorm of a residual and what is added to it ---


@triton.jit(do_not_specialize=["site", "threshold", "R"])
def _norm_forward(
    residual,
    added,
    weight,
    bias,
    wide,
    narrow,
    mean,
    deviation,
    seed,
    step,
    site,
    threshold,
    R,
    eps,
    UP,
    D: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    row = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    column = tl.arange(0, BLOCK_D)
    inside = (row < R)[:, None] & (column < D)[None, :]
    place = row[:, None] * D + column[None, :]
    y = tl.load(added + place, mask=inside, other=0.0).to(tl.float32)
    y = tl.where(_kept(place, _key(seed, step, site), threshold), y * UP, 0.0)
    x = tl.load(residual + place, mask=inside, other=0.0) + y
    mu = tl.sum(x, 1) / D
    centred = tl.where(inside, x - mu[:, None], 0.0)
    inverse = 1 / tl.sqrt(tl.sum(centred * centred, 1) / D + eps)
    w = tl.load(weight + column, mask=column < D, other=0.0)
    b = tl.load(bias + column, mask=column < D, other=0.0)
    out = centred * inverse[:, None] * w[None, :] + b[None, :]
    tl.store(wide + place, out, mask=inside)
    tl.store(narrow + place, out.to(narrow.dtype.element_ty), mask=inside)
    tl.store(mean + row, mu, mask=row < R)
    tl.store(deviation + row, inverse, mask=row < R)


@_tuned(*(({"BLOCK_R": r, "ITERATIONS": ROWS_AT_ONCE // r}, w, None) for r, w in ((2, 8), (4, 8), (1, 4))))
@triton.jit(do_not_specialize=["site", "threshold", "R"])
def _norm_backward(
    grad_wide,
    grad_narrow,
    residual,
    added,
    weight,
    mean,
    deviation,
    to_residual,
    to_added,
    partial,
    seed,
    step,
    site,
    threshold,
    R,
    UP,
    BOTH: tl.constexpr,
    ITERATIONS: tl.constexpr,
    D: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    program = tl.program_id(0)
    column = tl.arange(0, BLOCK_D)
    w = tl.load(weight + column, mask=column < D, other=0.0)
    key = _key(seed, step, site)
    sum_w = tl.zeros((BLOCK_D,), tl.float32)
    sum_b = tl.zeros((BLOCK_D,), tl.float32)
    sum_y = tl.zeros((BLOCK_D,), tl.float32)
    for iteration in range(ITERATIONS):
        row = (program * ITERATIONS + iteration) * BLOCK_R + tl.arange(0, BLOCK_R)
        inside = (row < R)[:, None] & (column < D)[None, :]
        place = row[:, None] * D + column[None, :]
        g = tl.load(grad_wide + place, mask=inside, other=0.0)
        if BOTH:
            g += tl.load(grad_narrow + place, mask=inside, other=0.0).to(tl.float32)
        y = tl.load(added + place, mask=inside, other=0.0).to(tl.float32)
        kept = _kept(place, key, threshold)
        y = tl.where(kept, y * UP, 0.0)
        x = tl.load(residual + place, mask=inside, other=0.0) + y
        mu = tl.load(mean + row, mask=row < R, other=0.0)
        inverse = tl.load(deviation + row, mask=row < R, other=0.0)
        normal = tl.where(inside, (x - mu[:, None]) * inverse[:, None], 0.0)
        wg = g * w[None, :]
        along = tl.sum(normal * wg, 1) / D
        level = tl.sum(wg, 1) / D
        out = inverse[:, None] * (wg - level[:, None] - normal * along[:, None])
        tl.store(to_residual + place, out, mask=inside)
        out = tl.where(kept, out * UP, 0.0)
        out = tl.where(inside, out, 0.0)
        tl.store(to_added + place, out.to(to_added.dtype.element_ty), mask=inside)
        sum_w += tl.sum(g * normal, 0)
        sum_b += tl.sum(g, 0)
        sum_y += tl.sum(out, 0)
    start = partial + program * 3 * D + column
    tl.store(start, sum_w, mask=column < D)
    tl.store(start + D, sum_b, mask=column < D)
    tl.store(start + 2 * D, sum_y, mask=column < D)


class Normed(NamedTuple):
    """What LayerNorm made of rows: in float32, in the products' dtype, and what its gradient needs."""

    wide_RD: Tensor
    narrow_RD: Tensor
    mean_R: Tensor
    deviation_R: Tensor


def norm(residual_RD: Tensor, added_RD: Tensor, weight: Tensor, bias: Tensor, eps: float, noise: Noise) -> Normed:
    """LayerNorm(residual + dropout(added))."""
    rows, width = residual_RD.shape
    wide, narrow = torch.empty_like(residual_RD), torch.empty_like(added_RD)
    mean, deviation = residual_RD.new_empty(rows), residual_RD.new_empty(rows)
    _norm_forward[(triton.cdiv(rows, 4),)](
        residual_RD,
        added_RD,
        weight,
        bias,
        wide,
        narrow,
        mean,
        deviation,
        noise.seed_1,
        noise.step_1,
        noise.site,
        noise.threshold,
        rows,
        eps,
        noise.scale,
        D=width,
        BLOCK_R=4,
        BLOCK_D=triton.next_power_of_2(width),
        num_warps=8,
    )
    return Normed(wide, narrow, mean, deviation)


def norm_gradient(
    grad_RD: Tensor,
    narrow_grad_RD: Tensor | None,
    residual_RD: Tensor,
    added_RD: Tensor,
    weight: Tensor,
    out: Normed,
    noise: Noise,
) -> tuple[Tensor, Tensor, Tensor]:
    """From the gradient of `norm`'s rows, in one or two summands, those of the residual (float32) and of what was added.

    The third are partial sums (P, 3 D) of the gradients of weight, bias and, over its rows, of what was added.
    """
    rows, width = residual_RD.shape
    programs = triton.cdiv(rows, ROWS_AT_ONCE)
    to_residual, to_added = torch.empty_like(residual_RD), torch.empty_like(added_RD)
    partial = residual_RD.new_empty(programs, 3 * width)
    _norm_backward[(programs,)](
        grad_RD,
        narrow_grad_RD if narrow_grad_RD is not None else added_RD,
        residual_RD,
        added_RD,
        weight,
        out.mean_R,
        out.deviation_R,
        to_residual,
        to_added,
        partial,
        noise.seed_1,
        noise.step_1,
        noise.site,
        noise.threshold,
        rows,
        noise.scale,
        BOTH=narrow_grad_RD is not None,
        D=width,
        BLOCK_D=triton.next_power_of_2(width),
    )
    return to_residual, to_added, partial


# --- sums over rows ---


@triton.jit(do_not_specialize=["R"])
def _sum_rows(x, out, R, columns, stride, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):
    column = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    total = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    for start in range(0, R, BLOCK_R):
        row = start + tl.arange(0, BLOCK_R)
        inside = (row < R)[:, None] & (column < columns)[None, :]
        total += tl.load(x + row[:, None] * stride + column[None, :], mask=inside, other=0.0).to(tl.float32)
    tl.store(out + column, tl.sum(total, 0).to(out.dtype.element_ty), mask=column < columns)


def sum_rows(x_PC: Tensor, out_C: Tensor) -> None:
    """Sums of columns, summed in float32 and written in the dtype of `out`."""
    rows, columns = x_PC.shape
    _sum_rows[(triton.cdiv(columns, 32),)](x_PC, out_C, rows, columns, x_PC.stride(0), BLOCK_R=64, BLOCK_C=32)


@triton.jit(do_not_specialize=["R"])
def _sum_thirds(x, first, second, third, R, D, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):
    column = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    which = tl.program_id(1)
    total = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    for start in range(0, R, BLOCK_R):
        row = start + tl.arange(0, BLOCK_R)
        inside = (row < R)[:, None] & (column < D)[None, :]
        total += tl.load(x + row[:, None] * (3 * D) + which * D + column[None, :], mask=inside, other=0.0)
    found = tl.sum(total, 0)
    tl.store(first + column, found.to(first.dtype.element_ty), mask=(column < D) & (which == 0))
    tl.store(second + column, found.to(second.dtype.element_ty), mask=(column < D) & (which == 1))
    tl.store(third + column, found.to(third.dtype.element_ty), mask=(column < D) & (which == 2))


def sum_thirds(partial_P3D: Tensor, first_D: Tensor, second_D: Tensor, third_D: Tensor) -> None:
    """Sums of three times D columns, each third written to a place of its own."""
    rows, width = partial_P3D.shape[0], partial_P3D.shape[1] // 3
    grid = (triton.cdiv(width, 32), 3)
    _sum_thirds[grid](partial_P3D, first_D, second_D, third_D, rows, width, BLOCK_R=64, BLOCK_C=32)


# --- GELU ---


@triton.jit
def _gelu_forward(x, out, count, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    u = tl.load(x + place, mask=place < count, other=0.0).to(tl.float32)
    y = 0.5 * u * (1 + tl.erf(u * 0.7071067811865476))
    tl.store(out + place, y.to(out.dtype.element_ty), mask=place < count)


@triton.jit(do_not_specialize=["R"])
def _gelu_backward(grad, x, out, partial, R, C, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):
    row = tl.program_id(1) * BLOCK_R + tl.arange(0, BLOCK_R)
    column = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = (row < R)[:, None] & (column < C)[None, :]
    place = row[:, None] * C + column[None, :]
    u = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    g = tl.load(grad + place, mask=inside, other=0.0).to(tl.float32)
    slope = 0.5 * (1 + tl.erf(u * 0.7071067811865476)) + u * tl.exp(-0.5 * u * u) * 0.3989422804014327
    g *= slope
    tl.store(out + place, g.to(out.dtype.element_ty), mask=inside)
    tl.store(partial + tl.program_id(1) * C + column, tl.sum(g, 0), mask=column < C)


def gelu(x_RD: Tensor) -> Tensor:
    """x Φ(x)."""
    out = torch.empty_like(x_RD)
    _gelu_forward[(triton.cdiv(x_RD.numel(), 1024),)](x_RD, out, x_RD.numel(), BLOCK=1024)
    return out


def gelu_gradient(grad_RD: Tensor, x_RD: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of x, and partial sums (P, D) of it over its rows."""
    rows, columns = x_RD.shape
    out = torch.empty_like(x_RD)
    chunks = triton.cdiv(rows, 64)
    partial = torch.empty(chunks, columns, device=x_RD.device)
    _gelu_backward[(triton.cdiv(columns, 64), chunks)](grad_RD, x_RD, out, partial, rows, columns, 64, 64, num_warps=8)
    return out, partial


# --- attention within sequences ---


@_tuned(({"BLOCK_Q": 64}, 4, None), ({"BLOCK_Q": 64}, 8, 128), ({"BLOCK_Q": 128}, 8, None))
@triton.jit(do_not_specialize=["site", "threshold", "N"])
def _attention_forward(
    q,
    k,
    v,
    out,
    logsums,
    q_starts,
    k_starts,
    seed,
    step,
    site,
    threshold,
    q_stride,
    k_stride,
    N,
    scale,
    UP,
    H: tl.constexpr,
    K: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    head = tl.program_id(0)
    sequence = tl.program_id(1)
    q0 = tl.load(q_starts + sequence)
    queries = tl.load(q_starts + sequence + 1) - q0
    k0 = tl.load(k_starts + sequence)
    keys = tl.load(k_starts + sequence + 1) - k0
    c = tl.arange(0, K)
    j = tl.arange(0, BLOCK_K)
    k_place = (k0 + j)[:, None] * k_stride + head * K + c[None, :]
    kj = tl.load(k + k_place, mask=(j < keys)[:, None], other=0.0)
    vj = tl.load(v + k_place, mask=(j < keys)[:, None], other=0.0)
    key = _key(seed, step, site)
    for start in range(0, queries, BLOCK_Q):
        i = start + tl.arange(0, BLOCK_Q)
        real = i < queries
        qi = tl.load(q + (q0 + i)[:, None] * q_stride + head * K + c[None, :], mask=real[:, None], other=0.0)
        s = tl.dot(qi, tl.trans(kj), input_precision="ieee") * scale
        s = tl.where((j < keys)[None, :], s, -float("inf"))
        most = tl.max(s, 1)
        p = tl.exp2(s - most[:, None])
        total = tl.sum(p, 1)
        index = ((sequence * H + head) * BLOCK_K + i)[:, None] * BLOCK_K + j[None, :]
        p = tl.where(_kept(index, key, threshold), p * UP, 0.0)
        o = tl.dot(p.to(vj.dtype), vj, input_precision="ieee") / total[:, None]
        o_place = (q0 + i)[:, None] * (H * K) + head * K + c[None, :]
        tl.store(out + o_place, o.to(out.dtype.element_ty), mask=real[:, None])
        tl.store(logsums + head * N + q0 + i, most + tl.log2(total), mask=real)


@_tuned(({"BLOCK_Q": 64}, 8, None), ({"BLOCK_Q": 32}, 8, 128), ({"BLOCK_Q": 32}, 4, None))
@triton.jit(do_not_specialize=["site", "threshold", "N"])
def _attention_backward(
    grad,
    q,
    k,
    v,
    logsums,
    dq,
    dk,
    dv,
    partial,
    q_starts,
    k_starts,
    seed,
    step,
    site,
    threshold,
    q_stride,
    k_stride,
    N,
    scale,
    UP,
    H: tl.constexpr,
    K: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    head = tl.program_id(0)
    sequence = tl.program_id(1)
    q0 = tl.load(q_starts + sequence)
    queries = tl.load(q_starts + sequence + 1) - q0
    k0 = tl.load(k_starts + sequence)
    keys = tl.load(k_starts + sequence + 1) - k0
    c = tl.arange(0, K)
    j = tl.arange(0, BLOCK_K)
    k_place = (k0 + j)[:, None] * k_stride + head * K + c[None, :]
    kj = tl.load(k + k_place, mask=(j < keys)[:, None], other=0.0)
    vj = tl.load(v + k_place, mask=(j < keys)[:, None], other=0.0)
    key = _key(seed, step, site)
    to_k = tl.zeros((BLOCK_K, K), tl.float32)
    to_v = tl.zeros((BLOCK_K, K), tl.float32)
    sum_q = tl.zeros((K,), tl.float32)
    for start in range(0, queries, BLOCK_Q):
        i = start + tl.arange(0, BLOCK_Q)
        real = i < queries
        q_place = (q0 + i)[:, None] * q_stride + head * K + c[None, :]
        qi = tl.load(q + q_place, mask=real[:, None], other=0.0)
        o_place = (q0 + i)[:, None] * (H * K) + head * K + c[None, :]
        gi = tl.load(grad + o_place, mask=real[:, None], other=0.0)
        level = tl.load(logsums + head * N + q0 + i, mask=real, other=0.0)
        # Keys by queries, so that the products below find their left factor where it is.
        s = tl.dot(kj, tl.trans(qi), input_precision="ieee") * scale
        p = tl.where((j < keys)[:, None] & real[None, :], tl.exp2(s - level[None, :]), 0.0)
        to_p = tl.dot(vj, tl.trans(gi), input_precision="ieee")
        index = ((sequence * H + head) * BLOCK_K + i)[None, :] * BLOCK_K + j[:, None]
        kept = _kept(index, key, threshold)
        dropped = tl.where(kept, p * UP, 0.0)
        to_p = tl.where(kept, to_p * UP, 0.0)
        to_v += tl.dot(dropped.to(gi.dtype), gi, input_precision="ieee")
        # `scale` has a factor log2(e) for exp2, which the gradient has not.
        to_s = (p * (to_p - tl.sum(p * to_p, 0)[None, :]) * (scale * LN2)).to(qi.dtype)
        to_k += tl.dot(to_s, qi, input_precision="ieee")
        to_q = tl.dot(tl.trans(to_s), kj, input_precision="ieee")
        tl.store(dq + q_place, to_q.to(dq.dtype.element_ty), mask=real[:, None])
        sum_q += tl.sum(to_q, 0)
    tl.store(dk + k_place, to_k.to(dk.dtype.element_ty), mask=(j < keys)[:, None])
    tl.store(dv + k_place, to_v.to(dv.dtype.element_ty), mask=(j < keys)[:, None])
    sums = partial + sequence * (3 * H * K) + head * K + c
    tl.store(sums, sum_q)
    tl.store(sums + H * K, tl.sum(to_k, 0))
    tl.store(sums + 2 * H * K, tl.sum(to_v, 0))


class Projected(NamedTuple):
    """Queries (N, D), keys and values (R, D): views of wider rows, keys and values of the same."""

    q_ND: Tensor
    k_RD: Tensor
    v_RD: Tensor


class Extent(NamedTuple):
    """Where the sequences lie among queries and rows, int32 (S + 1), the most rows of one, and the number of heads."""

    queries_S1: Tensor
    starts_S1: Tensor
    longest: int
    heads: int


def _attention_blocks(given: Projected, extent: Extent) -> dict[str, Any]:
    longest = max(16, triton.next_power_of_2(extent.longest))
    if longest > 128:
        raise ValueError(f"sequences of {extent.longest} rows are too long for one tile: 128 at most")
    return {"BLOCK_K": longest, "H": extent.heads, "K": given.q_ND.shape[1] // extent.heads}


def _attention_scale(given: Projected, extent: Extent) -> float:
    return LOG2E / float(given.q_ND.shape[1] // extent.heads) ** 0.5


def attention(given: Projected, extent: Extent, noise: Noise) -> tuple[Tensor, Tensor]:
    """softmax(q kᵀ / √K) v within each sequence and head (N, D), and the logarithms of its sums (H, N), base 2."""
    queries = given.q_ND.shape[0]
    out = given.q_ND.new_empty(given.q_ND.shape)
    logsums = torch.empty(extent.heads, queries, device=out.device)
    _attention_forward[(extent.heads, len(extent.starts_S1) - 1)](
        given.q_ND,
        given.k_RD,
        given.v_RD,
        out,
        logsums,
        extent.queries_S1,
        extent.starts_S1,
        noise.seed_1,
        noise.step_1,
        noise.site,
        noise.threshold,
        given.q_ND.stride(0),
        given.k_RD.stride(0),
        queries,
        _attention_scale(given, extent),
        noise.scale,
        **_attention_blocks(given, extent),
    )
    return out, logsums


def attention_gradient(
    grad_ND: Tensor,
    given: Projected,
    logsums_HN: Tensor,
    to: Projected,
    extent: Extent,
    noise: Noise,
) -> Tensor:
    """Write the gradients of queries, keys and values, strided as these are; their partial sums over rows (S, 3 D)."""
    partial = torch.empty(len(extent.starts_S1) - 1, 3 * grad_ND.shape[1], device=grad_ND.device)
    _attention_backward[(extent.heads, len(extent.starts_S1) - 1)](
        grad_ND,
        *given,
        logsums_HN,
        *to,
        partial,
        extent.queries_S1,
        extent.starts_S1,
        noise.seed_1,
        noise.step_1,
        noise.site,
        noise.threshold,
        given.q_ND.stride(0),
        given.k_RD.stride(0),
        given.q_ND.shape[0],
        _attention_scale(given, extent),
        noise.scale,
        **_attention_blocks(given, extent),
    )
    return partial


# --- embeddings ---


@triton.jit(do_not_specialize=["site", "threshold"])
def _embed_forward(
    ids, positions, words, places, types, weight, bias, wide, narrow, mean, deviation, seed, step, site, threshold, eps, UP,
    D: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK_D)
    inside = column < D
    x = tl.load(words + tl.load(ids + row) * D + column, mask=inside, other=0.0)
    x += tl.load(places + tl.load(positions + row) * D + column, mask=inside, other=0.0)
    x += tl.load(types + column, mask=inside, other=0.0)
    mu = tl.sum(x, 0) / D
    centred = tl.where(inside, x - mu, 0.0)
    inverse = 1 / tl.sqrt(tl.sum(centred * centred, 0) / D + eps)
    w = tl.load(weight + column, mask=inside, other=0.0)
    out = centred * inverse * w + tl.load(bias + column, mask=inside, other=0.0)
    place = row * D + column
    out = tl.where(_kept(place, _key(seed, step, site), threshold), out * UP, 0.0)
    tl.store(wide + place, out, mask=inside)
    tl.store(narrow + place, out.to(narrow.dtype.element_ty), mask=inside)
    tl.store(mean + row, mu)
    tl.store(deviation + row, inverse)


@triton.jit(do_not_specialize=["site", "threshold", "R"])
def _embed_backward(
    grad_wide, grad_narrow, ids, positions, words, places, types, weight, mean, deviation, to_words, to_places, partial,
    seed, step, site, threshold, R, pad, UP,
    ROWS: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    column = tl.arange(0, BLOCK_D)
    inside = column < D
    w = tl.load(weight + column, mask=inside, other=0.0)
    t = tl.load(types + column, mask=inside, other=0.0)
    sum_w = tl.zeros((BLOCK_D,), tl.float32)
    sum_b = tl.zeros((BLOCK_D,), tl.float32)
    sum_x = tl.zeros((BLOCK_D,), tl.float32)
    key = _key(seed, step, site)
    for row in range(program * ROWS, tl.minimum(program * ROWS + ROWS, R)):
        word = tl.load(ids + row)
        position = tl.load(positions + row)
        place = row * D + column
        g = tl.load(grad_wide + place, mask=inside, other=0.0)
        g += tl.load(grad_narrow + place, mask=inside, other=0.0).to(tl.float32)
        g = tl.where(_kept(place, key, threshold), g * UP, 0.0)
        x = tl.load(words + word * D + column, mask=inside, other=0.0)
        x += tl.load(places + position * D + column, mask=inside, other=0.0) + t
        inverse = tl.load(deviation + row)
        normal = tl.where(inside, (x - tl.load(mean + row)) * inverse, 0.0)
        wg = g * w
        out = inverse * (wg - tl.sum(wg, 0) / D - normal * (tl.sum(normal * wg, 0) / D))
        # Reading [PAD] gives no gradient.
        tl.atomic_add(to_words + word * D + column, out, mask=inside & (word != pad), sem="relaxed")
        tl.atomic_add(to_places + position * D + column, out, mask=inside, sem="relaxed")
        sum_w += g * normal
        sum_b += g
        sum_x += tl.where(inside, out, 0.0)
    start = partial + program * 3 * D + column
    tl.store(start, sum_w, mask=inside)
    tl.store(start + D, sum_b, mask=inside)
    tl.store(start + 2 * D, sum_x, mask=inside)


class Tables(NamedTuple):
    """Embeddings of words (V, D), positions and token types, and the normalisation of their sum; float32."""

    words: Tensor
    positions: Tensor
    types: Tensor
    norm: Tensor
    norm_bias: Tensor


EMBEDDED_AT_ONCE = 4
"""Rows of one program of the embeddings' gradient."""


def embed(ids_R: Tensor, positions_R: Tensor, tables: Tables, dtype: torch.dtype, eps: float, noise: Noise) -> Normed:
    """dropout(LayerNorm(word + position + first token type))."""
    rows, width = len(ids_R), tables.words.shape[1]
    wide, mean = tables.words.new_empty(rows, width), tables.words.new_empty(rows)
    out = Normed(wide, torch.empty_like(wide, dtype=dtype), mean, torch.empty_like(mean))
    _embed_forward[(rows,)](
        ids_R,
        positions_R,
        *tables,
        *out,
        noise.seed_1,
        noise.step_1,
        noise.site,
        noise.threshold,
        eps,
        noise.scale,
        D=width,
        BLOCK_D=triton.next_power_of_2(width),
    )
    return out


def embed_gradient(
    grads: tuple[Tensor, Tensor],
    ids_R: Tensor,
    positions_R: Tensor,
    tables: Tables,
    out: Normed,
    to_words: Tensor,
    to_positions: Tensor,
    pad: int,
    noise: Noise,
) -> Tensor:
    """Add to the gradients of words and positions; partial sums (P, 3 D) for weight, bias, and the first token type."""
    rows, width = grads[0].shape
    programs = triton.cdiv(rows, EMBEDDED_AT_ONCE)
    partial = grads[0].new_empty(programs, 3 * width)
    _embed_backward[(programs,)](
        *grads,
        ids_R,
        positions_R,
        *tables[:4],
        out.mean_R,
        out.deviation_R,
        to_words,
        to_positions,
        partial,
        noise.seed_1,
        noise.step_1,
        noise.site,
        noise.threshold,
        rows,
        pad,
        noise.scale,
        ROWS=EMBEDDED_AT_ONCE,
        D=width,
        BLOCK_D=triton.next_power_of_2(width),
    )
    return partial


# --- cross entropy ---


@triton.jit
def _cross_entropy(logits, labels, losses, scale, V, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    label = tl.load(labels + row)
    own = logits + row * V
    labelled = label >= 0
    # Read before anything is overwritten: other threads are past the sums below when they begin to write.
    chosen = tl.load(own + label, mask=labelled, other=0.0).to(tl.float32)
    place = tl.arange(0, BLOCK)
    most = tl.full((BLOCK,), -float("inf"), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, V, BLOCK):
        x = tl.load(own + start + place, mask=start + place < V, other=-float("inf")).to(tl.float32)
        higher = tl.maximum(most, x)
        # A lane that has seen nothing yet has -inf - -inf, which is not a number.
        total = total * tl.where(most == higher, 1.0, tl.exp(most - higher))
        total += tl.where(x == -float("inf"), 0.0, tl.exp(x - higher))
        most = higher
    peak = tl.max(most, 0)
    logsum = peak + tl.log(tl.sum(total * tl.exp(most - peak), 0))
    tl.store(losses + row, tl.where(labelled, logsum - chosen, 0.0))
    weight = tl.where(labelled, tl.load(scale), 0.0)
    for start in range(0, V, BLOCK):
        inside = start + place < V
        x = tl.load(own + start + place, mask=inside, other=0.0).to(tl.float32)
        gradient = weight * (tl.exp(x - logsum) - tl.where(start + place == label, 1.0, 0.0))
        tl.store(own + start + place, gradient.to(logits.dtype.element_ty), mask=inside)


def cross_entropy(logits_NV: Tensor, labels_N: Tensor, scale: Tensor) -> Tensor:
    """`scale` times the sum of the cross entropies of rows that have a label, which is 0 or more.

    The logits become their own gradient.
    """
    rows, vocabulary = logits_NV.shape
    losses = torch.empty(rows, device=logits_NV.device)
    _cross_entropy[(rows,)](logits_NV, labels_N, losses, scale, vocabulary, BLOCK=4096, num_warps=8)
    return losses.sum() * scale


# --- AdamW ---


@triton.jit
def _adamw(
    weights, first, second, gradients, copy, decay, step_size, variance_scale, count, BETA1: tl.constexpr,
    BETA2: tl.constexpr, EPSILON: tl.constexpr, COPIED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    g = tl.load(gradients + place, mask=inside, other=0.0).to(tl.float32)
    m = tl.load(first + place, mask=inside, other=0.0)
    v = tl.load(second + place, mask=inside, other=0.0)
    w = tl.load(weights + place, mask=inside, other=0.0)
    m += (1 - BETA1) * (g - m)
    v = v * BETA2 + g * g * (1 - BETA2)
    w = w * tl.load(decay) - tl.load(step_size) * m / (tl.sqrt(v) * tl.load(variance_scale) + EPSILON)
    tl.store(first + place, m, mask=inside)
    tl.store(second + place, v, mask=inside)
    tl.store(weights + place, w, mask=inside)
    if COPIED:
        tl.store(copy + place, w.to(copy.dtype.element_ty), mask=inside)


def adamw(
    weights: Tensor,
    first: Tensor,
    second: Tensor,
    gradients: Tensor,
    copy: Tensor | None,
    scalars: tuple[Tensor, Tensor, Tensor],
    betas: tuple[float, float],
    epsilon: float,
) -> None:
    """`tlm.training.flat.adamw`, whose `scalars` are decay, step_size and variance_scale."""
    _adamw[(triton.cdiv(len(weights), 1024),)](
        weights,
        first,
        second,
        gradients,
        copy if copy is not None else weights,
        *scalars,
        len(weights),
        BETA1=betas[0],
        BETA2=betas[1],
        EPSILON=epsilon,
        COPIED=copy is not None,
        BLOCK=1024,
    )
