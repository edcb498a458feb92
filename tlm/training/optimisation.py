"""What every run has: a learning rate schedule, a precision, a curve, and the error of a run that diverged."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import pandas as pd
import torch

from tlm.errors import UserError
from tlm.machine.precision import native_precision
from tlm.study.base import Precision
from tlm.study.config import Optimisation

Progress = Callable[[int, int], None]
"""Called as (steps done, steps in all)."""


class NonFiniteLoss(UserError):
    """Training diverged: there is no result, and no artifact."""

    def __init__(self, problem: str, remedy: str = "Lower learning_rate, or set max_grad_norm.") -> None:
        super().__init__(problem, remedy)


Point = tuple[int, str, float]
"""Step, metric, value."""


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


def computing_dtype(precision: Precision, device: str) -> torch.dtype:
    """What products are computed in; "auto" is bfloat16 where the device has it, else float32."""
    chosen = native_precision(torch.device(device).type) if precision == "auto" else precision
    return torch.bfloat16 if chosen == "bfloat16" else torch.float32


def autocast(precision: Precision, device: str) -> AbstractContextManager[object]:
    """A context that computes in this precision."""
    dtype = computing_dtype(precision, device)
    return nullcontext() if dtype == torch.float32 else torch.autocast(torch.device(device).type, dtype=dtype)
