"""What a confidence interval promises, by simulation: 95 % of them hold the truth, and 5 % of tests reject it.

Correctness is drawn with P = logistic(level + item + item×system + seed + fine-tuning + seed×item), every term normal; the
truth is the expectation over all of them, by quadrature. The table of every setting:

    pytest -o log_cli=true -o log_cli_level=INFO tests/statistics/test_statistics_coverage.py
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.special import expit

from tlm.statistics import (
    Estimate,
    cross_validated_r2,
    difference,
    difference_p_value,
    mean_accuracy,
    paired_bootstrap_p_value,
    partial_correlation,
)

LOG = logging.getLogger(__name__)
SIMULATIONS = 500
MANY = 2_000
"""So many tell 5 % from 6 %: the standard error of a share is then 0.5, and 1 with SIMULATIONS."""
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(80)


@dataclass(frozen=True)
class World:
    """How large each cause of being right is, in logits."""

    seed: float
    """Standard deviation over pre-training seeds; fine-tuning seeds have half of it."""
    item: float = 1.5
    item_of_system: float = 0.7
    seed_by_item: float = 0.5
    level: float = 0.3
    gap: float = 0.4

    @property
    def fine_tuning(self) -> float:
        return self.seed / 2

    def truth(self, level: float) -> float:
        """The expected accuracy of a system at `level`."""
        spread = np.sqrt(
            self.item**2 + self.item_of_system**2 + self.seed**2 + self.fine_tuning**2 + self.seed_by_item**2
        )
        return float(WEIGHTS @ expit(level + spread * NODES) / WEIGHTS.sum())

    def items(self, generator: np.random.Generator, count: int) -> np.ndarray:
        return self.item * generator.standard_normal(count)

    def runs(
        self, generator: np.random.Generator, level: float, items: np.ndarray, seeds: int, tunings: int
    ) -> np.ndarray:
        """Correctness (pre-training seeds, fine-tuning seeds, items) of one system."""
        logits = level + items + self.item_of_system * generator.standard_normal(len(items))
        for spread, shape in (
            (self.seed, (seeds, 1, 1)),
            (self.fine_tuning, (seeds, tunings, 1)),
            (self.seed_by_item, (seeds, 1, len(items))),
        ):
            logits = logits + spread * generator.standard_normal(shape)
        return generator.random((seeds, tunings, len(items))) < expit(logits)


SMALL, MEDIUM, LARGE = World(seed=0.02), World(seed=0.12), World(seed=0.5)
WORLDS = {"small": SMALL, "medium": MEDIUM, "large": LARGE}


def holds(found: Estimate, truth: float) -> bool:
    return found.low <= truth <= found.high


def coverage(world: World, seeds: int, tunings: int, items: int, simulations: int) -> dict[str, float]:
    """The share of simulations whose interval holds the truth: of a mean and of a difference."""
    generator = np.random.default_rng([7, seeds, tunings])
    one, other = world.truth(world.level + world.gap), world.truth(world.level)
    found = np.zeros((simulations, 2), dtype=bool)
    for row in found:
        drawn = world.items(generator, items)
        a = world.runs(generator, world.level + world.gap, drawn, seeds, tunings)
        b = world.runs(generator, world.level, drawn, seeds, tunings)
        row[:] = (
            holds(mean_accuracy(a), one),
            holds(difference(a, b), one - other),
        )
    return dict(zip(("mean", "difference"), found.mean(axis=0).tolist(), strict=True))


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_intervals_from_three_seeds_cover(world: World) -> None:
    for share in coverage(world, 3, 1, items=400, simulations=SIMULATIONS).values():
        assert 0.92 <= share <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("tunings", [1, 2])
@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("size", WORLDS)
def test_intervals_cover_whatever_varies(size: str, seeds: int, tunings: int) -> None:
    shares = coverage(WORLDS[size], seeds, tunings, items=300, simulations=MANY)
    LOG.info("%s: %d × %d seeds: %s", size, seeds, tunings, shares)
    for share in shares.values():
        assert 0.92 <= share <= 0.98


def test_intervals_cover_at_high_accuracy() -> None:
    generator, world = np.random.default_rng(1), replace(MEDIUM, level=4.5)
    truth = world.truth(4.5)
    found = [
        holds(mean_accuracy(world.runs(generator, 4.5, world.items(generator, 400), 3, 1)), truth)
        for _ in range(SIMULATIONS)
    ]
    assert 0.95 < truth < 0.98
    assert 0.92 <= np.mean(found) <= 0.98


def test_intervals_cover_between_few_nested_seeds_and_many_plain_ones() -> None:
    generator, found = np.random.default_rng(2), []
    truth = MEDIUM.truth(0.7) - MEDIUM.truth(0.3)
    for _ in range(SIMULATIONS):
        items = MEDIUM.items(generator, 400)
        a, b = MEDIUM.runs(generator, 0.7, items, 3, 2), MEDIUM.runs(generator, 0.3, items, 8, 1)[:, 0]
        found.append(holds(difference(a, b), truth))
    assert 0.92 <= np.mean(found) <= 0.98


def test_one_pretraining_is_covered_over_its_fine_tunings_alone() -> None:
    """The truth is then the expectation of that one pre-training: its seed shifts the level, and varies no more."""
    generator, found = np.random.default_rng(3), []
    once, again = replace(LARGE, seed_by_item=0), World(seed=0, seed_by_item=0, item_of_system=LARGE.fine_tuning)
    for _ in range(SIMULATIONS):
        level = once.level + once.seed * generator.standard_normal()
        logits = level + again.items(generator, 400)
        logits = logits + once.fine_tuning * generator.standard_normal((1, 4, 1))
        found.append(holds(mean_accuracy(generator.random((1, 4, 400)) < expit(logits)), again.truth(level)))
    assert 0.92 <= np.mean(found) <= 0.98


class TestTypeOneError:
    """Two systems that are equally good, and differ on items and seeds alone."""

    @pytest.mark.slow
    @pytest.mark.parametrize(("items", "runs"), [(40, 1), (150, 1), (150, 3)])
    def test_the_test_over_items_keeps_its_level(self, items: int, runs: int) -> None:
        generator, world = np.random.default_rng([5, items, runs]), replace(SMALL, seed=0)
        rejected = []
        for simulation in range(3 * MANY):
            drawn = world.items(generator, items)
            a, b = (world.runs(generator, 0.3, drawn, runs, 1)[:, 0] for _ in range(2))
            rejected.append(paired_bootstrap_p_value(a, b, draws=500, seed=simulation) <= 0.05)
        LOG.info("%d items, %d runs: the paired bootstrap rejects %.3f", items, runs, np.mean(rejected))
        assert np.mean(rejected) <= 0.06

    def test_one_run_each_of_few_items_keeps_the_level(self) -> None:
        generator, world = np.random.default_rng(11), replace(SMALL, seed=0)
        found = []
        for simulation in range(SIMULATIONS):
            drawn = world.items(generator, 60)
            a, b = (world.runs(generator, 0.3, drawn, 1, 1)[0, 0] for _ in range(2))
            found.append(paired_bootstrap_p_value(a, b, draws=500, seed=simulation))
        assert (np.array(found) <= 0.05).mean() <= 0.06

    @pytest.mark.slow
    def test_the_test_over_seeds_and_items_keeps_its_level_where_that_over_items_cannot(self) -> None:
        generator = np.random.default_rng(6)
        rejected = np.zeros((MANY, 2), dtype=bool)
        for simulation, row in enumerate(rejected):
            drawn = LARGE.items(generator, 150)
            a, b = (LARGE.runs(generator, 0.3, drawn, 3, 1)[:, 0] for _ in range(2))
            row[0] = difference_p_value(a, b) <= 0.05
            row[1] = paired_bootstrap_p_value(a, b, draws=200, seed=simulation) <= 0.05
        over_both, over_items = rejected.mean(axis=0)
        LOG.info("over seeds and items %.3f, over items %.3f", over_both, over_items)
        assert over_both <= 0.06
        assert over_items > 0.3


class TestPrediction:
    """y and x share a covariate, and points of a group share half of their deviations."""

    @staticmethod
    def points(generator: np.random.Generator, groups: int, size: int) -> tuple[np.ndarray, ...]:
        labels = np.repeat(np.arange(groups), size)

        def deviations() -> np.ndarray:
            shared = generator.standard_normal(groups)[labels]
            return (shared + generator.standard_normal(len(labels))) / np.sqrt(2)

        covariate, u, v = generator.standard_normal(len(labels)), deviations(), deviations()
        return 0.4 * covariate + u, 0.5 * covariate + 0.7 * u + np.sqrt(0.51) * v, covariate, labels

    @pytest.mark.parametrize("groups", [3, 6, 12])
    def test_jackknife_intervals_of_partial_correlation_cover(self, groups: int) -> None:
        generator, found = np.random.default_rng(8), []
        for _ in range(SIMULATIONS):
            x, y, covariate, labels = self.points(generator, groups, 6)
            found.append(holds(partial_correlation(x, y, covariate, groups=labels), 0.7))
        LOG.info("partial correlation, %d groups: %.3f", groups, np.mean(found))
        assert 0.92 <= np.mean(found) <= 0.98

    @pytest.mark.parametrize("groups", [4, 8, 12])
    def test_jackknife_intervals_of_r2_cover_its_median(self, groups: int) -> None:
        """R² of a finite sample is biased whatever it is made of: the truth is its median over samples of this size."""
        generator, found = np.random.default_rng(9), []
        for _ in range(2 * SIMULATIONS):
            x, y, _, labels = self.points(generator, groups, 6)
            found.append(cross_validated_r2(x, y, labels))
        truth = float(np.median([one.value for one in found]))
        share = np.mean([holds(one, truth) for one in found])
        LOG.info("R², %d groups: %.3f", groups, share)
        assert 0.92 <= share <= 0.995
