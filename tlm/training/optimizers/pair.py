"""Two torch optimizers as one, each with parameters of its own. Imports torch: `build` of an optimizer imports it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


class Pair(torch.optim.Optimizer):
    """Its parameter groups are those of the first, then those of the second, and its state is that of both."""

    def __init__(self, first: torch.optim.Optimizer, second: torch.optim.Optimizer) -> None:
        self.parts = (first, second)
        super().__init__([*first.param_groups, *second.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let both work on this one's groups, whose rates the training loop sets, and on its state."""
        groups = self.param_groups
        boundary = len(self.parts[0].param_groups)
        for part, own in zip(self.parts, (groups[:boundary], groups[boundary:]), strict=True):
            part.param_groups, part.state = own, self.state

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Both take a step. A closure is not called."""
        for part in self.parts:
            part.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's, which puts new groups and a new state in the place of those that are shared."""
        super().load_state_dict(state_dict)
        self._share()


def body_matrices(model: nn.Module) -> list[Tensor]:
    """The weights of the linear maps below the heads, in the order of the model's parameters; embeddings are none.

    A module that holds several transformers models (an objective's) has those of each.
    """
    bodies = [part.base_model for part in model.modules() if isinstance(part, PreTrainedModel)]
    parts = [part for body in bodies for part in body.modules()]
    embedded = {id(part.weight) for part in model.modules() if isinstance(part, nn.Embedding)}
    linear = {id(part.weight) for part in parts if isinstance(part, nn.Linear)} - embedded
    return [parameter for parameter in model.parameters() if id(parameter) in linear]
