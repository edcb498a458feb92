"""AdamW with a linear schedule, and the one loop that both objectives share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import pandas as pd
import torch

from tlm.config import Optimisation, Precision

Progress = Callable[[int, int], None]
"""Called as (done, total)."""


class NonFiniteLoss(RuntimeError):
    """Training diverged: there is no result, and no artifact."""


@dataclass
class Curve:
    """Metrics by step, as they will stand in metrics.parquet and in MLflow."""

    rows: list[tuple[int, int, str, float]] = field(default_factory=list)

    def add(self, step: int, epoch: int, **values: float) -> None:
        self.rows += [(step, epoch, name, float(value)) for name, value in values.items()]

    def last(self, name: str) -> float:
        return next(value for _, _, row, value in reversed(self.rows) if row == name)

    def frame(self) -> pd.DataFrame:
        types = {"step": "int64", "epoch": "int64", "name": "str", "value": "float64"}
        return pd.DataFrame(self.rows, columns=list(types)).astype(types)


def learning_rate(config: Optimisation, step: int, steps: int, steps_per_epoch: int) -> float:
    """Learning rate of 0-based `step`: linear warm-up, then linear decay to 0 after `steps`.

    With schedule "epoch" (the reference code's habit) it changes only when an epoch begins.
    """
    if config.schedule == "epoch":
        step -= step % steps_per_epoch
    warmup = config.warmup_share * steps
    if step < warmup:
        return config.learning_rate * step / warmup
    return config.learning_rate * max(0.0, (steps - step) / max(1.0, steps - warmup))


def autocast(precision: Precision, device: str) -> AbstractContextManager[object]:
    return torch.autocast(device, dtype=torch.bfloat16) if precision == "bfloat16" else nullcontext()


@dataclass(frozen=True)
class Batch:
    """One training batch: what the model is called with, and which items it holds (for error messages)."""

    epoch: int
    rows: list[int]
    inputs: dict[str, torch.Tensor]


def train(
    model: torch.nn.Module,
    batches: Iterable[Batch],
    config: Optimisation,
    *,
    steps: int,
    steps_per_epoch: int,
    device: str,
    curve: Curve,
    after_step: Callable[[int, int], None],
    progress: Progress | None = None,
    log_every: int = 20,
) -> None:
    """Optimise `model` in place over `batches`, which must yield `steps` of them.

    `after_step(step, epoch)` is called with the 1-based step once it is done, to evaluate when it likes.

    Raises:
        NonFiniteLoss: as soon as a loss is NaN or infinite, naming step, learning rate and batch.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    model.train()
    for step, batch in enumerate(batches, start=1):
        rate = learning_rate(config, step - 1, steps, steps_per_epoch)
        for group in optimizer.param_groups:
            group["lr"] = rate
        inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.inputs.items()}
        with autocast(config.precision, device):
            loss = model(**inputs).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if config.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        logged = step == 1 or step % log_every == 0 or step == steps
        # Reading the loss stalls a GPU until the step is done; on a CPU it is free, so every step is checked.
        if logged or device == "cpu":
            value = loss.item()
            if not math.isfinite(value):
                raise NonFiniteLoss(
                    f"loss is {value} at step {step} of {steps}, learning rate {rate:.3g}, "
                    f"batch of {len(batch.rows)} items starting with rows {batch.rows[:4]}"
                )
        if logged:
            curve.add(step, batch.epoch, train_loss=value, learning_rate=rate)
            if progress:
                progress(step, steps)
        after_step(step, batch.epoch)
