"""Whole layers that some steps of a training go without (LayerDrop: Fan et al. 2019, arXiv 1909.11556), the more often the
higher they stand (Elhoushi et al. 2024, arXiv 2404.16710)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from tlm.study.config import PretrainConfig
from tlm.training.hooks import Hook, Run


class LayerDrop(Hook):
    """Chooses before each step which layers hand on what they are given; after the last step all are as they were.

    The first layer is in every step; of the others the i-th is left out with i / (L − 1) times the probability of the last.
    A function of seed and step alone: it must come after what sets the step of a run that goes on. Evaluations during a
    training have all layers.
    """

    def __init__(self, config: PretrainConfig, layers: Sequence[nn.Module], seed: int) -> None:
        self.layers, self.seed = layers, seed
        self.probabilities = config.layer_drop * np.linspace(0, 1, len(layers))

    def on_start(self, run: Run) -> None:
        self._choose(run)

    def after_step(self, run: Run) -> None:
        self._choose(run)

    def dropped(self, step: int) -> list[bool]:
        """Which layers a step, from 0, goes without."""
        drawn = np.random.default_rng([self.seed, step, 0x1A7E]).random(len(self.layers))
        return [bool(each) for each in drawn < self.probabilities]

    def _choose(self, run: Run) -> None:
        last = run.step >= run.steps
        for layer, drops in zip(self.layers, self.dropped(run.step), strict=True):
            vars(layer).pop("forward", None)
            if drops and not last:
                layer.forward = partial(_handed_on, layer, layer.forward)


def _handed_on(layer: nn.Module, forward: Any, x_RD: Tensor, *others: Any, **named: Any) -> Tensor:
    """What goes in, in training; in evaluation what the layer makes of it."""
    made: Tensor = x_RD if layer.training else forward(x_RD, *others, **named)
    return made
