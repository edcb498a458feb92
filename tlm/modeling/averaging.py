"""The mean of models' weights: a model soup (arXiv 2203.05482)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from transformers import PreTrainedModel

Model = TypeVar("Model", bound=PreTrainedModel)


def average_weights(models: Sequence[Model]) -> Model:
    """The first of the models, changed in place: each of its weights is the mean of that weight in all of them.

    So is what batch normalisation has gathered; what is no fraction (a count of batches) stays the first's. The mean is
    taken in float64, so that models which are equal are their own mean.

    Raises ValueError if there is no model, or if they have other weights than the first.
    """
    if not models:
        raise ValueError("the mean of no models")
    states = [model.state_dict() for model in models]
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in states]
    if any(each != shapes[0] for each in shapes):
        raise ValueError("weights of different names or shapes have no mean")
    mean = {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(first.dtype)
        if first.is_floating_point()
        else first
        for name, first in states[0].items()
    }
    models[0].load_state_dict(mean)
    return models[0]
