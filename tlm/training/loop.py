"""The training loop of every objective: one step on one screen, and hooks for all else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from tlm.data.ragged import Rows
from tlm.modeling.layout import Layout, Queries
from tlm.study.config import Optimisation
from tlm.training.hooks import Hook, Run, UnreadLoss
from tlm.training.memory import out_of_memory_is
from tlm.training.optimisation import Curve, NonFiniteLoss, autocast, learning_rate

Inputs = Mapping[str, Tensor | Layout | Queries]
"""What a model's `loss` is called with."""


class BatchOrder(Protocol):
    """Which items make up which step: `EpochOrder`, unless a run has batches of its own."""

    @property
    def steps_per_epoch(self) -> int: ...

    def batch(self, step: int) -> tuple[int, Rows]:
        """(epoch, items) of a 0-based step."""
        ...


def own_loss(model: Any, **inputs: Any) -> Tensor:
    """What a model says is its loss."""
    loss: Tensor = model.loss(**inputs)
    return loss


@dataclass(frozen=True)
class Batches:
    """The batches of a run: which items make up a step, how they become a model's inputs, and what is minimised.

    `inputs` is a function of (1-based step, items) alone, so that a run can go on from any step. `loss`, of (model,
    **inputs), is the mean over a batch, a scalar.
    """

    order: BatchOrder
    inputs: Callable[[int, Rows], Inputs]
    loss: Callable[..., Tensor] = own_loss


def train(
    model: Any, batches: Batches, config: Optimisation, *, steps: int, device: str, curve: Curve, hooks: Sequence[Hook]
) -> None:
    """Minimise `batches.loss` of a model in place.

    Args:
        model: a torch module on `device`.
        config: optimizer, learning rate and its schedule, clipping, precision; its length is not read.
        steps: optimiser steps of the whole run, those before a checkpoint included.
        device: "cpu" or "cuda".
        curve: gets what the hooks add, and has what the run had before a checkpoint.
        hooks: called before the first step and after each (`tlm.training.hooks`), in this order.

    Raises:
        NonFiniteLoss: on a CPU at once, on a GPU within `LOG_EVERY` steps, naming step, learning rate and batch.
        BatchTooLarge: if the memory does not hold a batch.
    """
    run = Run(model, config.optimizer.build(model, config), device, steps, curve)
    for hook in hooks:
        hook.on_start(run)
    model.train()
    while run.step < steps:
        run.epoch, rows = batches.order.batch(run.step)
        run.learning_rate = learning_rate(config, run.step, steps, batches.order.steps_per_epoch)
        for group in run.optimizer.param_groups:
            group["lr"] = run.learning_rate * group.get("lr_scale", 1.0)
        with out_of_memory_is(
            f"out of memory on {device} with a batch of {len(rows)} at step {run.step + 1}", len(rows)
        ):
            loss = gradients(model, batches.inputs(run.step + 1, rows), config, device, batches.loss)
            run.optimizer.step()
        run.step += 1
        run.unread.append(UnreadLoss(run.step, run.learning_rate, rows, loss))
        # Reading the loss stalls a GPU until the step is done; on a CPU it is free, so every step is checked.
        if run.logs or device == "cpu":
            run.loss()
        for hook in hooks:
            hook.after_step(run)
    _check_weights(model, steps)


def gradients(
    model: Any, inputs: Inputs, config: Optimisation, device: str, loss_of: Callable[..., Tensor] = own_loss
) -> Tensor:
    """The loss of a batch, its gradients, clipped if that is asked for, left in the parameters."""
    model.zero_grad(set_to_none=True)
    moved = {name: value.to(device) for name, value in inputs.items()}
    with autocast(config.precision, device):
        loss = loss_of(model, **moved)
    loss.backward()  # type: ignore[no-untyped-call]
    if config.max_grad_norm is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
    return loss.detach()


def _check_weights(model: torch.nn.Module, steps: int) -> None:
    """The last step's update comes after the last reading of a loss."""
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise NonFiniteLoss(f"training diverged: {name} is not finite after step {steps} of {steps}.")
