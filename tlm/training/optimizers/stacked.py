"""Muon with the matrices of one shape orthogonalised together. Imports torch: `build` of an optimizer imports it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

STACKED = 1 << 22
"""Numbers in one stack of matrices, at most, if those are more than one: what a few temporary copies of cost no memory."""


class StackedMuon(torch.optim.Muon):
    """torch's Muon, whose products are batched over matrices of one shape, and in a precision that can be chosen.

    Layers that are narrow have many small products; one after the other they cost more than the model's gradients.

    Args:
        dtype: of the products of Newton and Schulz's iteration.
        groups, options: as torch's.
    """

    def __init__(self, groups: Any, *, dtype: torch.dtype, **options: Any) -> None:
        super().__init__(groups, **options)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step from the gradients that there are. A closure is not called."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            for stack in _stacks(parameters):
                self._step(stack, group)

    def _step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        momenta = [self._momentum(parameter) for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        updates = torch._foreach_lerp(gradients, momenta, group["momentum"]) if group["nesterov"] else momenta
        wide_BMN = torch.stack([_wide(update) for update in updates]).to(self.dtype)
        orthogonal_BMN = orthogonalised(wide_BMN, group["ns_coefficients"], group["ns_steps"], group["eps"])
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        for parameter, update_MN in zip(parameters, orthogonal_BMN.to(parameters[0].dtype), strict=True):
            update = update_MN if _is_wide(parameter) else update_MN.T
            parameter.add_(update, alpha=-group["lr"] * _scale(group["adjust_lr_fn"], *parameter.shape))

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum_buffer"]
        return momentum


def orthogonalised(
    wide_BMN: Tensor, coefficients: tuple[float, float, float], steps: int, smallest_norm: float
) -> Tensor:
    """Each matrix UΣVᵀ with its singular values brought near 1 (0.7 to 1.2), by the iteration of Newton and Schulz.

    Args:
        wide_BMN: B matrices of M rows and N ≥ M columns.
        coefficients: a, b, c of σ → aσ + bσ³ + cσ⁵.
    """
    a, b, c = coefficients
    x_BMN = wide_BMN / wide_BMN.norm(dim=(1, 2), keepdim=True).clamp(min=smallest_norm)
    for _ in range(steps):
        gram_BMM = x_BMN @ x_BMN.mT
        polynomial_BMM = torch.baddbmm(gram_BMM, gram_BMM, gram_BMM, beta=b, alpha=c)
        x_BMN = torch.baddbmm(x_BMN, polynomial_BMM, x_BMN, beta=a)
    return x_BMN


def _stacks(parameters: list[Tensor]) -> Iterator[list[Tensor]]:
    """The parameters by shape, a matrix and one of its transpose's shape together, no more than STACKED numbers at once."""
    by_shape: dict[tuple[int, ...], list[Tensor]] = {}
    for parameter in parameters:
        by_shape.setdefault(tuple(sorted(parameter.shape)), []).append(parameter)
    for shape, alike in by_shape.items():
        size = max(1, STACKED // math.prod(shape))
        for begin in range(0, len(alike), size):
            yield alike[begin : begin + size]


def _is_wide(matrix: Tensor) -> bool:
    return matrix.shape[0] <= matrix.shape[1]


def _wide(matrix: Tensor) -> Tensor:
    return matrix if _is_wide(matrix) else matrix.T


def _scale(adjust_lr_fn: str, rows: int, columns: int) -> float:
    """By what the rate of a matrix differs from that of its group."""
    if adjust_lr_fn == "original":
        return math.sqrt(max(1.0, rows / columns))
    return 0.2 * math.sqrt(max(rows, columns))
