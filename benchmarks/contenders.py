"""What a contender is, which there are, and how one is built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Protocol

from benchmarks.cases import Case
from benchmarks.setting import Setting
from tlm.data.ragged import Rows

STOCK, TRAINER, OURS = "stock", "trainer", "ours"
NAMES = (STOCK, TRAINER, OURS)
"""In the order in which they alternate; the first is what the others are compared with."""


class Contender(Protocol):
    """A model, kept between runs, and the loop that works on it."""

    @property
    def precision(self) -> str:
        """What its matrix products are computed in: float32 or bfloat16."""
        ...

    def prepare(self, batches: Sequence[Rows], repeats: int) -> Callable[[], None]:
        """Do what is done once before training or evaluation, and return the work itself, which is timed.

        The work trains on (or evaluates) `batches`, in that order, `repeats` times over.

        Stock contenders keep their optimizer between turns, which may be as short as one step: its averages are
        allocated once, in the warm-up. tlm's loop makes a new one for each run, and pays for it in every turn.
        """
        ...


def left_out(case: Case, name: str) -> str | None:
    """Why a contender does not run a case, or None if it does."""
    if name == TRAINER and case.shape.conv_kernel_sizes:
        return "transformers has no such model"
    if name == TRAINER and find_spec("accelerate") is None:
        return "accelerate is not installed (pip install -e '.[bench]')"
    return None


def names_for(case: Case) -> list[str]:
    return [name for name in NAMES if left_out(case, name) is None]


def build(name: str, setting: Setting) -> Contender:
    """A contender with a freshly initialised model. Its module is imported only now: imports count as memory."""
    if name == STOCK:
        from benchmarks.stock import Stock

        return Stock(setting)
    if name == TRAINER:
        from benchmarks.trainer import StockTrainer

        return StockTrainer(setting)
    from benchmarks.ours import Ours

    return Ours(setting)
