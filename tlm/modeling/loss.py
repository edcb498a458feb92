"""Cross entropy over a large vocabulary, without keeping more than one matrix of its logits.

Shapes: N predicted positions, D hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORED_LABEL = -100
"""The label of a position that is not predicted (the convention of torch and transformers)."""
CHUNK_BYTES = {"cpu": 4 << 20, "cuda": 256 << 20}
"""Bytes of logits that are turned into probabilities at a time, in float32: on a CPU they stay in the cache."""


def linear_cross_entropy(x_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, labels_N: Tensor) -> Tensor:
    """The mean over N, 1 at least, of the cross entropy of `x weightᵀ + bias` (or of no bias) with `labels`.

    The same as torch's `linear` and `cross_entropy`, under autocast too. Gradients are computed on the way forward,
    in place of the logits: N × V numbers are kept, once.
    """
    loss: Tensor = _LinearCrossEntropy.apply(x_ND, weight_VD, bias_V, labels_N)  # type: ignore[no-untyped-call]
    return loss


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, labels_N: Tensor) -> Tensor:
        device = x_ND.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x_ND.dtype
        x_ND, weight_VD = x_ND.to(dtype), weight_VD.to(dtype)
        logits_NV = F.linear(x_ND, weight_VD, None if bias_V is None else bias_V.to(dtype))
        losses = []
        rows = max(1, CHUNK_BYTES[device] // (4 * len(weight_VD)))
        for chunk_CV, labels_C in zip(torch.split(logits_NV, rows), torch.split(labels_N, rows), strict=True):
            log_p_CV = torch.log_softmax(chunk_CV, dim=1, dtype=torch.float32)
            losses.append(F.nll_loss(log_p_CV, labels_C, reduction="sum"))
            grad_CV = log_p_CV.exp_()
            grad_CV[torch.arange(len(labels_C), device=labels_C.device), labels_C] -= 1
            chunk_CV.copy_(grad_CV)
        ctx.save_for_backward(x_ND, weight_VD, logits_NV)
        return torch.stack(losses).sum() / len(labels_N)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x_ND, weight_VD, grad_NV = ctx.saved_tensors
        scale = grad / len(x_ND)
        # Scaling the two thin matrices is cheaper than the wide ones.
        grad_x_ND = (grad_NV @ weight_VD).float() * scale
        grad_weight_VD = (grad_NV.t() @ (x_ND * scale).to(x_ND.dtype)).float()
        grad_bias_V = grad_NV.sum(0, dtype=torch.float32) * scale if ctx.needs_input_grad[2] else None
        return grad_x_ND, grad_weight_VD, grad_bias_V, None
