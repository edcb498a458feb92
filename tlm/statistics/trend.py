"""Does an accuracy, or a difference of several, rise with a property of the task? A least-squares slope over tasks.

What varies is what varies in `tlm.statistics.accuracy`: seeds and items, crossed. Every task has items of its own, while
one system may run through all tasks with the same seeds: each seed then has a slope of its own, and these are the units, so
that what a good pre-training does to every task at once is not counted as if it had happened on each by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from tlm.statistics.checks import Floats, confidence_level, correctness, same_length, vector
from tlm.statistics.estimate import Estimate
from tlm.statistics.spread import Spread, Units, interval, seed_parts, seed_units


@dataclass(frozen=True)
class Term:
    """`weight` × the expected accuracy behind `correct`."""

    weight: float
    correct: ArrayLike
    """0/1, in one of the shapes of `mean_accuracy`; terms of one task have the same items in the same order."""
    system: str
    """Terms of one system have the same seeds in the same order, on all tasks; systems are independent of each other."""


def trend(x: ArrayLike, measured: Sequence[Sequence[Term]], *, confidence: float = 0.95) -> Estimate:
    """Slope of y = α + β·x by least squares, with a t interval over seeds and items.

    Args:
        x: a property of each task, shape (tasks,).
        measured: for each task the terms whose sum is y.
        confidence: the interval's coverage, a share.

    Returns:
        A share for each unit of x.

    Raises:
        ValueError: as `mean_accuracy`; for fewer than three tasks or one x; and if the seeds of a system, or the items of
            a task, do not match.
    """
    confidence_level(confidence)
    places = vector(x, "x", at_least=3)
    same_length(x=places, measured=np.empty(len(measured)))
    if np.ptp(places) == 0:
        raise ValueError(f"x is {places[0]:g} for every task; a trend needs tasks that differ.")
    slopes = (places - places.mean()) / np.square(places - places.mean()).sum()
    return _estimate([_units(terms, slope) for terms, slope in zip(measured, slopes, strict=True)], confidence)


def weighted_sum(terms: Sequence[Term], *, confidence: float = 0.95) -> Estimate:
    """The sum of terms of one task, with a t interval over seeds and items.

    `tlm.statistics.contrast.contrast` where every system is independent; here terms of one system share their seeds.

    Raises:
        ValueError: as `trend`.
    """
    confidence_level(confidence)
    return _estimate([_units(terms, 1.0)], confidence)


def _estimate(tasks: Sequence[dict[str, Units]], confidence: float) -> Estimate:
    systems = _over_tasks(tasks)
    value = sum(float(units.rows.mean()) for units in systems)
    return interval(_spread(systems, tasks), value, systems, confidence, (-np.inf, np.inf))


def _units(terms: Sequence[Term], slope: float) -> dict[str, Units]:
    """Each system's (seeds, items) on one task, weighted: the sum of its terms."""
    found: dict[str, Units] = {}
    for term in terms:
        units = seed_units(correctness(term.correct, term.system), seeded=np.ndim(term.correct) > 1)
        rows = slope * term.weight * units.rows
        for other in found.values():
            if other.rows.shape[1] != rows.shape[1]:
                raise ValueError(f"{term.system} has {rows.shape[1]} items on a task of {other.rows.shape[1]}.")
        if term.system in found:
            _same_seeds(term.system, found[term.system].rows, rows)
            rows = found[term.system].rows + rows
        found[term.system] = replace(units, rows=rows)
    return found


def _over_tasks(tasks: Sequence[dict[str, Units]]) -> list[Units]:
    """The slope of each seed of each system, (seeds, 1)."""
    found: dict[str, Units] = {}
    for task in tasks:
        for system, units in task.items():
            sums = units.rows.mean(axis=1, keepdims=True)
            if system in found:
                _same_seeds(system, found[system].rows, sums)
                sums = found[system].rows + sums
            found[system] = replace(units, rows=sums)
    return list(found.values())


def _same_seeds(system: str, some: Floats, others: Floats) -> None:
    if len(some) != len(others):
        raise ValueError(f"{system} has {len(some)} seeds here and {len(others)} there; give terms of equal seeds.")


def _spread(systems: Sequence[Units], tasks: Sequence[dict[str, Units]]) -> Spread:
    repeated = [units for units in systems if len(units.rows) > 1]
    variances = [float(units.rows.var(ddof=1)) / len(units.rows) for units in repeated]
    squares = sum(variance**2 / (len(units.rows) - 1) for variance, units in zip(variances, repeated, strict=True))
    items = sum(_item_variance(list(task.values())) for task in tasks)
    fewest = min(units.rows.shape[1] for task in tasks for units in task.values())
    return Spread(sum(variances), sum(variances) ** 2 / squares if squares else 1.0, items, fewest - 1)


def _item_variance(systems: Sequence[Units]) -> float:
    """The variance over items of one task's sum, less the noise of seed × item, which the variance over seeds holds."""
    means = np.sum([units.rows.mean(axis=0) for units in systems], axis=0)
    noise = sum(seed_parts(units.rows)[2] for units in systems if len(units.rows) > 1)
    return max(float(means.var(ddof=1)) / len(means) - noise, 0.0)
