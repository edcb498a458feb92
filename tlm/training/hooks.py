"""What happens beside the optimisation of a model: a small protocol, and the hooks that every run has."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tlm.data.ragged import Rows
from tlm.training.memory import out_of_memory_is
from tlm.training.optimisation import Curve, NonFiniteLoss, Point, Progress

LOG_EVERY = 20
"""Steps between two entries of the curve, and on a GPU between two readings of the loss."""


@dataclass(frozen=True)
class UnreadLoss:
    """The loss of a step, still on the device, and what an error would say of that step."""

    step: int
    learning_rate: float
    rows: Rows
    loss: Tensor


@dataclass
class Run:
    """A training under way, as hooks see it.

    Args:
        model: the module that is trained, on `device`.
        steps: optimiser steps of the whole run.
        step: those that are done; a hook that restores a run sets it in `on_start`.
        epoch: of the last step, from 0.
        learning_rate: of the last step.
    """

    model: Any
    optimizer: torch.optim.Optimizer
    device: str
    steps: int
    curve: Curve
    step: int = 0
    epoch: int = 0
    learning_rate: float = math.nan
    unread: list[UnreadLoss] = field(default_factory=list, init=False, repr=False)
    _loss: float = field(default=math.nan, init=False, repr=False)

    @property
    def logs(self) -> bool:
        """Whether the last step is one of those that the curve shows."""
        return self.step == 1 or self.step % LOG_EVERY == 0 or self.step == self.steps

    def loss(self) -> float:
        """The last step's loss, once all that have not been read are known to be finite. A GPU is waited for.

        Raises NonFiniteLoss naming step, learning rate and batch of the first that is not.
        """
        if self.unread:
            values = torch.stack([unread.loss for unread in self.unread]).tolist()
            for unread, value in zip(self.unread, values, strict=True):
                if not math.isfinite(value):
                    raise NonFiniteLoss(
                        f"training diverged: loss is {value} at step {unread.step} of {self.steps}, learning rate "
                        f"{unread.learning_rate:.3g}, batch of {len(unread.rows)} items starting with rows "
                        f"{unread.rows[:4].tolist()}."
                    )
            self._loss = float(values[-1])
            self.unread.clear()
        return self._loss


class Hook:
    """Called by the training loop; each method does nothing unless a subclass says what.

    Hooks are called in the order given. One that raises ends the run.
    """

    def on_start(self, run: Run) -> None:
        """Before the first step."""

    def after_step(self, run: Run) -> None:
        """After each step, `run.step` of `run.steps`, once the model's weights have changed."""


class LogLoss(Hook):
    """Training loss and learning rate of some steps, into the curve."""

    def after_step(self, run: Run) -> None:
        if run.logs:
            run.curve.add(run.step, run.epoch, train_loss=run.loss(), learning_rate=run.learning_rate)


@dataclass
class Evaluate(Hook):
    """Metrics of some steps, into the curve.

    Args:
        due: whether to evaluate after this 1-based step.
        metrics: computed from the model as it is then. It may leave the model in evaluation mode.
    """

    due: Callable[[int], bool]
    metrics: Callable[[], dict[str, float]]

    def after_step(self, run: Run) -> None:
        if self.due(run.step):
            with out_of_memory_is(f"out of memory on {run.device} while evaluating after step {run.step}"):
                run.curve.add(run.step, run.epoch, **self.metrics())
            run.model.train()


@dataclass
class ReportProgress(Hook):
    """Tell whoever waits how many steps are done."""

    progress: Progress

    def on_start(self, run: Run) -> None:
        if run.step:
            self.progress(run.step, run.steps)

    def after_step(self, run: Run) -> None:
        if run.logs:
            self.progress(run.step, run.steps)


@dataclass
class ReportCurve(Hook):
    """Tell whoever watches what the curve has gained, as often as it is logged; a resumed run tells all of it again."""

    points: Callable[[list[Point]], None]
    _told: int = field(default=0, init=False)

    def after_step(self, run: Run) -> None:
        if run.logs and len(run.curve.rows) > self._told:
            self.points([(step, name, value) for step, _, name, value in run.curve.rows[self._told :]])
            self._told = len(run.curve.rows)
