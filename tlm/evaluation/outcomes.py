"""From the scores of options to a benchmark's score: who chose the right option, how often, and how sure that is.

Shapes: O options of all items, N items, G groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tlm.data.ragged import Rows

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """A mean over items, or over groups of them."""

    value: float
    se: float
    """Standard error over what it is the mean of; NaN for one."""
    item_se: float
    """Standard error over items, groups being given; NaN if a group has one."""


def credits(scores_O: Floats, item_of_O: Rows, gold_N: Rows) -> Floats:
    """(N,): 1 for an item whose right option has the highest score, 1 / k if k options share it, else 0.

    NaN if one of its options has no score (NaN). No option is preferred for its place: in BLiMP the first is always right.

    Args:
        item_of_O: the number of each option's item, ascending; the options of an item lie together.
        gold_N: of each item the number of its right option, within the item.
    """
    firsts_N = np.searchsorted(item_of_O, np.arange(len(gold_N)))
    best_N = np.maximum.reduceat(scores_O, firsts_N)  # NaN wins
    ties_N = np.add.reduceat((scores_O == best_N[item_of_O]).astype(np.float64), firsts_N)
    right_N = scores_O[firsts_N + gold_N] == best_N
    return np.where(np.isnan(best_N), np.nan, right_N / np.maximum(ties_N, 1))


def mean_score(values_N: Floats, groups_N: Sequence[str] | None = None) -> Score:
    """The mean over items, or with `groups_N` the mean over groups of the mean over the items of each. NaN is left out."""
    kept_N = ~np.isnan(values_N)
    values = values_N[kept_N]
    if not len(values):
        return Score(math.nan, math.nan, math.nan)
    if groups_N is None:
        se = _se(values)
        return Score(float(values.mean()), se, se)
    _, group = np.unique(np.asarray(groups_N)[kept_N], return_inverse=True)
    sizes_G = np.bincount(group)
    means_G = np.bincount(group, values) / sizes_G
    squares_G = np.bincount(group, (values - means_G[group]) ** 2)
    item_se = math.nan
    if (sizes_G > 1).all():
        item_se = math.sqrt(float((squares_G / (sizes_G - 1) / sizes_G).sum())) / len(sizes_G)
    return Score(float(means_G.mean()), _se(means_G), item_se)


def _se(values: Floats) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
