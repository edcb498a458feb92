"""Dropout that only a part of a training has (Liu et al. 2023, arXiv 2303.01500)."""

from __future__ import annotations

from typing import Any

from torch import nn

from tlm.study.config import PretrainConfig
from tlm.training.hooks import Hook, Run


class ScheduledDropout(Hook):
    """Sets the probability of a model's dropout before each step, to its own or to 0; after the last step it is its own.

    A function of the step alone: it must come after what sets the step of a run that goes on.
    """

    def __init__(self, config: PretrainConfig) -> None:
        self.config = config
        self._own: list[tuple[Any, float]] = []

    def on_start(self, run: Run) -> None:
        self._own = [(module, module.p) for module in run.model.modules() if isinstance(module, nn.Dropout)]
        self._set(run)

    def after_step(self, run: Run) -> None:
        self._set(run)

    def _set(self, run: Run) -> None:
        early = run.step < self.config.dropout_share * run.steps
        drops = early == (self.config.dropout_schedule == "early") or run.step == run.steps
        for module, p in self._own:
            module.p = p if drops else 0.0
