"""Taking weights out of a trained model, without training it again: single weights of its layers' matrices (by magnitude,
or Wanda: Sun et al. 2023, arXiv 2306.11695), neurons of their feed-forward networks, or heads of their attention.

Embeddings, norms, biases and heads of the model are left alone. What goes is what has the least weight, in each layer by
itself; how much is the share that is asked for, rounded to whole weights, neurons or heads.

Shapes: O outputs and I inputs of a linear map.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from tlm.modeling.families.base import Pieces, family_of
from tlm.modeling.form import with_weights

Model = TypeVar("Model", bound=PreTrainedModel)


def layer_matrices(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """By name, the matrices of the linear maps in a model's layers; one that several layers share is there once.

    Raises ValueError if models of its family have no layers.
    """
    family = family_of(model.config)
    if not family.layer_names:
        raise ValueError(f"models of kind {family.kind} have no layers to prune")
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if name in linear and name.startswith(family.layer_names)
    }


# --- single weights ---


@torch.no_grad()
def prune_by_magnitude(model: PreTrainedModel, share: float) -> None:
    """Set the smallest weights of each matrix in a model's layers to zero."""
    for weight_OI in layer_matrices(model).values():
        weight_OI.view(1, -1)[_smallest(weight_OI.abs().view(1, -1), share)] = 0.0


@torch.no_grad()
def prune_by_wanda(model: PreTrainedModel, share: float, seen: InputNorms) -> None:
    """Set of each output of a linear map those weights to zero whose |weight| · ‖input‖ is least.

    Raises ValueError if `seen` has not seen every matrix multiplied.
    """
    for name, weight_OI in layer_matrices(model).items():
        norm_I = seen.of(weight_OI)
        if norm_I is None:
            raise ValueError(f"nothing has been multiplied with {name}: ask the model about a few texts first")
        weight_OI[_smallest(weight_OI.abs() * norm_I, share)] = 0.0


def _smallest(scores_OI: Tensor, share: float) -> Tensor:
    """A mask of each row's round(share · I) smallest; of equal ones the first."""
    order_OI = scores_OI.sort(dim=1, stable=True).indices[:, : round(share * scores_OI.shape[1])]
    return torch.zeros_like(scores_OI, dtype=torch.bool).scatter_(1, order_OI, True)


class InputNorms(TorchFunctionMode):
    """While it is entered, gathers what every matrix is multiplied with: `of(weight_OI)` is the norm of each input, (I,).

    Models multiply with several matrices at once, and with parts of one (`tlm.modeling.layers.projections`), so that no
    hook of a module would see it. Matrices are known by where they lie: they must not move before the norms are asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self._squares: dict[int, Tensor] = {}
        self._joined: dict[int, tuple[Tensor, Sequence[Tensor]]] = {}
        """By its id, a tensor that the next product may take, and what it was made of."""

    def of(self, weight_OI: Tensor) -> Tensor | None:
        """None if it was multiplied with nothing."""
        squares_I = self._squares.get(_place(weight_OI))
        return None if squares_I is None else squares_I.sqrt().float()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func is torch.cat:
            self._joined[id(found)] = (found, args[0])
        elif func is F.linear:
            x, weight = args[:2]
            squares_I = x.detach().double().square().flatten(0, -2).sum(dim=0)
            _, parts = self._joined.get(id(weight), (weight, [weight]))
            for part in parts:
                place = _place(part)
                self._squares[place] = self._squares.get(place, 0) + squares_I
            self._joined.clear()
        return found


def _place(weight: Tensor) -> int:
    return weight.untyped_storage().data_ptr()


# --- neurons and heads ---


@torch.no_grad()
def keep_pieces(model: Model, pieces: Pieces, remaining: int) -> Model:
    """A model of the same class with so many of its neurons, or heads, in each layer: those with the most weight, in order.

    With all of them it is `model` itself.
    """
    if remaining == pieces.count:
        return model
    weights = dict(model.state_dict())
    for number in range(model.config.num_hidden_layers):
        layer = f"{family_of(model.config).layer_names}{number}."
        kept = _heaviest(weights, layer, pieces, remaining)
        for name in pieces.into:
            for full in (f"{layer}{name}.weight", f"{layer}{name}.bias"):
                if full in weights:
                    weights[full] = weights[full].index_select(0, kept)
        out_of = f"{layer}{pieces.out_of}.weight"
        weights[out_of] = weights[out_of].index_select(1, kept)
    config = copy.deepcopy(model.config)
    for setting, value in {pieces.amount: remaining, **pieces.options}.items():
        setattr(config, setting, value)
    return with_weights(type(model), config, weights)


def _heaviest(weights: Mapping[str, Tensor], layer: str, pieces: Pieces, remaining: int) -> Tensor:
    """Rows of those pieces of a layer in which ‖last map into them‖ · ‖map out of them‖ is largest."""
    into = weights[f"{layer}{pieces.into[-1]}.weight"].reshape(pieces.count, -1)
    out_of = weights[f"{layer}{pieces.out_of}.weight"].T.reshape(pieces.count, -1)
    scores = into.norm(dim=1) * out_of.norm(dim=1)
    chosen = scores.sort(stable=True, descending=True).indices[:remaining].sort().values
    return (chosen[:, None] * pieces.width + torch.arange(pieces.width, device=chosen.device)).flatten()
