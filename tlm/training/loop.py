"""The training loop that both objectives share: one step on one screen, resumable after any of them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from tlm.data.ragged import Rows
from tlm.modeling.layout import Layout, Queries
from tlm.study.config import Optimisation
from tlm.training.checkpoint import Checkpoints, capture, restore
from tlm.training.memory import explained
from tlm.training.optimisation import Curve, NonFiniteLoss, Progress, autocast, learning_rate

log = logging.getLogger(__name__)

LOG_EVERY = 20
"""Steps between two entries of the curve, and on a GPU between two looks at the loss."""

Inputs = Mapping[str, Tensor | Layout | Queries]
"""What a model's `loss` is called with."""


class BatchOrder(Protocol):
    """Which items make up which step (`Order`, and others for others' needs)."""

    @property
    def steps_per_epoch(self) -> int: ...

    def batch(self, step: int) -> tuple[int, Rows]:
        """(epoch, items) of a 0-based step."""
        ...


@dataclass(frozen=True)
class Data:
    """The batches of a run: which items make up a step, and how they become a model's inputs.

    `inputs` is a function of (step, items) alone, so that a run can go on from any step.
    """

    order: BatchOrder
    inputs: Callable[[int, Rows], Inputs]


@dataclass
class _Seen:
    """A loss not looked at yet."""

    step: int
    rate: float
    rows: Rows
    loss: Tensor


def train(
    model: Any,
    data: Data,
    config: Optimisation,
    *,
    steps: int,
    device: str,
    curve: Curve,
    after_step: Callable[[int, int], None],
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
) -> None:
    """Optimise `model.loss(**inputs)` in place for `steps` steps, from the last checkpoint if there is one.

    `after_step(step, epoch)` is called with the 1-based step once it is done, to evaluate when it likes.

    Raises:
        NonFiniteLoss: on a CPU at once, on a GPU within LOG_EVERY steps, naming step, learning rate and batch.
        BatchTooLarge: if the memory does not hold a batch.
        UserError: if it does not hold an evaluation.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    done = _resume(model, optimizer, device, curve, checkpoints)
    if progress and done:
        progress(done, steps)
    model.train()
    unseen: list[_Seen] = []
    for step in range(done + 1, steps + 1):
        epoch, rows = data.order.batch(step - 1)
        rate = learning_rate(config, step - 1, steps, data.order.steps_per_epoch)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with explained(f"out of memory on {device} with a batch of {len(rows)} at step {step}", len(rows)):
            loss = _gradients(model, data.inputs(step, rows), config, device)
            optimizer.step()
        unseen.append(_Seen(step, rate, rows, loss))
        logged = step == 1 or step % LOG_EVERY == 0 or step == steps
        due = checkpoints is not None and step < steps and checkpoints.due()
        # Reading the loss stalls a GPU until the step is done; on a CPU it is free, so every step is checked.
        if logged or due or device == "cpu":
            value = _look(unseen, steps)
        if logged:
            curve.add(step, epoch, train_loss=value, learning_rate=rate)
            if progress:
                progress(step, steps)
        with explained(f"out of memory on {device} while evaluating after step {step}"):
            after_step(step, epoch)
        if due and checkpoints is not None:
            checkpoints.save(step, partial(capture, model, optimizer, device), {"curve": curve.rows})
    _check_weights(model, steps)


def _gradients(model: Any, inputs: Inputs, config: Optimisation, device: str) -> Tensor:
    """The loss of a batch, its gradients, clipped if that is asked for, left in the parameters."""
    model.zero_grad(set_to_none=True)
    moved = {name: value.to(device) for name, value in inputs.items()}
    with autocast(config.precision, device):
        loss: Tensor = model.loss(**moved)
    loss.backward()  # type: ignore[no-untyped-call]
    if config.max_grad_norm is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
    return loss.detach()


def _resume(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    device: str,
    curve: Curve,
    checkpoints: Checkpoints | None,
) -> int:
    """Go back to the last checkpoint; the number of steps it had done."""
    state = checkpoints.latest() if checkpoints else None
    if state is None:
        return 0
    try:
        restore(state.tensors, model, optimizer, device)
    except ValueError as error:
        log.warning("the checkpoint after step %d is not used: %s", state.step, error)
        return 0
    curve.rows[:] = [(step, epoch, name, value) for step, epoch, name, value in state.notes["curve"]]
    return state.step


def _look(unseen: list[_Seen], steps: int) -> float:
    """The last loss, once all since the last look are known to be finite."""
    values = torch.stack([seen.loss for seen in unseen]).tolist()
    for seen, value in zip(unseen, values, strict=True):
        if not math.isfinite(value):
            raise NonFiniteLoss(
                f"training diverged: loss is {value} at step {seen.step} of {steps}, learning rate {seen.rate:.3g}, "
                f"batch of {len(seen.rows)} items starting with rows {seen.rows[:4].tolist()}."
            )
    unseen.clear()
    return float(values[-1])


def _check_weights(model: torch.nn.Module, steps: int) -> None:
    """The last step's update comes after the last look at a loss."""
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise NonFiniteLoss(f"training diverged: {name} is not finite after step {steps} of {steps}.")
