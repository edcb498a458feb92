"""Layers with weights in common, and what each may have of its own on top of them (LoRA).

Shapes: R rows, I inputs and O outputs of a linear map, K rank of a layer's own part.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tlm.modeling.layers import projections
from tlm.modeling.options import Sharing


class Adapted(nn.Linear):
    """A linear map whose weight other layers have too, and on top of it a product of low rank that is this layer's.

    The product is no linear map of its own, so that no other initialisation than this one (zero) is drawn for it.
    """

    def __init__(self, in_features: int, out_features: int, *, bias: bool, rank: int, alpha: float) -> None:
        super().__init__(in_features, out_features, bias=bias)
        self.lora_A = nn.Parameter(torch.empty(rank, in_features))
        self.lora_B = nn.Parameter(torch.empty(out_features, rank))
        self.scale = alpha / rank

    def own(self, x: Tensor) -> Tensor:
        """The layer's own part: (…, I) → (…, O)."""
        return F.linear(F.linear(x, self.lora_A), self.lora_B) * self.scale

    def forward(self, x: Tensor) -> Tensor:
        """(…, I) → (…, O)."""
        return super().forward(x) + self.own(x)

    @torch.no_grad()
    def merged(self) -> Tensor:
        """The weight of a plain linear map that computes the same, (O, I)."""
        return self.weight + self.scale * (self.lora_B @ self.lora_A)


def maps(x: Tensor, *modules: nn.Linear) -> tuple[Tensor, ...]:
    """Several linear maps of the same input; what they share of it is one product."""
    outputs = projections(x, *modules)
    return tuple(
        y + module.own(x) if isinstance(module, Adapted) else y for y, module in zip(outputs, modules, strict=True)
    )


def shared_weights(layers: nn.ModuleList, sharing: Sharing) -> Iterator[tuple[str, str]]:
    """Of each parameter that a layer has from another: its name, and the other's, as `layers` names them."""
    first, *others = sharing.layers(len(layers))
    for name, _ in layers[first].named_parameters():
        if sharing.covers(name):
            yield from ((f"{layer}.{name}", f"{first}.{name}") for layer in others)
