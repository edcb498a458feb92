"""How the weights of a compressed model stand in its file, and how they are read again. Nothing else knows of it: a loaded
model has float32 weights, and computes with these.

int8: one scale for each row of a matrix (each output of a linear map, each token of an embedding), symmetric: a weight is
scale · q with q from -127 to 127, so that it is off by half a scale at most. Sparse: a bit for each weight, and those that
are not zero.

Shapes: R rows of a weight, K of its numbers that are not zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

Weights = dict[str, Tensor]
Storage = Callable[[Mapping[str, Tensor]], Weights]
"""A model's weights by name, as they will stand in its file."""

STEPS = 127
"""int8 on either side of zero."""
Q, SCALE = ".int8", ".scale"
SHAPE, BITS, KEPT = ".shape", ".bits", ".kept"


def as_int8(weights: Mapping[str, Tensor]) -> Weights:
    """Every matrix, embedding and kernel as `NAME.int8` and `NAME.scale` (R,); vectors (biases, norms) as they are."""
    stored: Weights = {}
    for name, weight in weights.items():
        if not _is_matrix(weight):
            stored[name] = weight
            continue
        rows = weight.float().flatten(1)
        scale_R = rows.abs().amax(dim=1) / STEPS
        divisor_R1 = torch.where(scale_R == 0, 1.0, scale_R)[:, None]  # a row of zeros has none
        stored[name + Q] = (rows / divisor_R1).round().clamp(-STEPS, STEPS).to(torch.int8).view(weight.shape)
        stored[name + SCALE] = scale_R
    return stored


def as_sparse(weights: Mapping[str, Tensor]) -> Weights:
    """A matrix that is smaller so as `NAME.shape`, `NAME.bits` (a bit for each weight) and `NAME.kept` (K,); others as they
    are."""
    stored: Weights = {}
    for name, weight in weights.items():
        is_kept = weight != 0
        parts = {
            SHAPE: torch.tensor(weight.shape),
            BITS: torch.from_numpy(np.packbits(is_kept.flatten().numpy())),
            KEPT: weight[is_kept],
        }
        smaller = sum(part.nbytes for part in parts.values()) < weight.nbytes
        stored |= {name + end: part for end, part in parts.items()} if smaller else {name: weight}
    return stored


def restored(stored: Mapping[str, Tensor]) -> Weights:
    """The weights as a model has them, whichever way each is stored."""
    weights = dict(stored)
    for name in stored:
        own, _, kind = name.rpartition(".")
        parts = [own + end for end in _PARTS.get(f".{kind}", ())]
        if parts and weights.keys() >= {*parts}:
            weights[own] = _RESTORE[f".{kind}"](*(weights.pop(part) for part in parts))
    return weights


def _from_int8(q: Tensor, scale_R: Tensor) -> Tensor:
    limits = torch.finfo(scale_R.dtype)
    # The largest float32 is scale · 127 rounded, which may be beyond it.
    return (q * scale_R.view(-1, *[1] * (q.ndim - 1))).clamp(limits.min, limits.max)


def _from_sparse(bits: Tensor, shape: Tensor, kept_K: Tensor) -> Tensor:
    weight = kept_K.new_zeros(shape.tolist())
    is_kept = np.unpackbits(bits.numpy(), count=weight.numel()).astype(bool)
    weight.view(-1)[torch.from_numpy(is_kept)] = kept_K
    return weight


_PARTS = {Q: (Q, SCALE), BITS: (BITS, SHAPE, KEPT)}
_RESTORE: Mapping[str, Callable[..., Tensor]] = {Q: _from_int8, BITS: _from_sparse}


def _is_matrix(weight: Tensor) -> bool:
    return weight.is_floating_point() and weight.ndim > 1
