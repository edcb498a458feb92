"""From single runs of one system to the array that estimates take: which items each run got right, by its seeds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEAST_ITEMS = 2
"""An interval over items needs two."""


class Run(NamedTuple):
    """One trained model on the test items."""

    pretrain_seed: int | None
    """None from scratch."""
    finetune_seed: int | None
    correct_N: ArrayLike
    """0/1, one value for each test item; all runs of a system have the same items in the same order."""


def stack_runs(runs: Iterable[Run]) -> NDArray[np.bool_]:
    """The runs as (pre-training seeds P, fine-tuning seeds F of each, items N), or (seeds S, N) where nothing is nested.

    Nothing is nested where each pre-training was fine-tuned once, and where there is one pre-training or none: its
    fine-tunings are then the repetitions. If some pre-trainings were fine-tuned more often than others, each keeps as
    many of its first fine-tunings as the one with the fewest has.

    Raises:
        ValueError: if there is no run.
    """
    by_pretraining: dict[int | None, list[ArrayLike]] = {}
    for run in sorted(runs, key=_order):
        by_pretraining.setdefault(run.pretrain_seed, []).append(run.correct_N)
    if not by_pretraining:
        raise ValueError("There is no run to stack; give at least one.")
    fewest = min(len(tuned) for tuned in by_pretraining.values())
    cube_PFN = np.array([tuned[:fewest] for tuned in by_pretraining.values()], dtype=bool)
    if len(cube_PFN) == 1:
        return cube_PFN[0]
    return cube_PFN[:, 0] if fewest == 1 else cube_PFN


def _order(run: Run) -> tuple[int, int]:
    return (
        -1 if run.pretrain_seed is None else run.pretrain_seed,
        -1 if run.finetune_seed is None else run.finetune_seed,
    )
