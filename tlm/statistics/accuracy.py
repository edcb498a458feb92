"""Mean accuracy, and the difference of two systems, with intervals over seeds and test items that hold with few seeds.

What is estimated is the expectation of the accuracy over seeds of the same recipe *and* over items of the population
that the test set was drawn from. Both are random and crossed: every seed meets every item. With S seeds, N items and
Y = θ + seed + item + seed×item, the mean's variance is σ²_seed/S + σ²_item/N + σ²_both/(S·N), and it is estimated by

- seeds:  the variance of the S seeds' accuracies, over S. It holds the first and third term.
- items:  the variance of the N items' mean correctness, over N, less the third term, which it would count twice
  (mean squares of the two-way layout: Cornfield & Tukey 1956, Ann. Math. Stat. 27; for systems and items Clark 1973,
  J. Verb. Learn. Verb. Behav. 12). The first of these two is the variance of the bootstrap over items, in closed form.

A percentile bootstrap of both levels knows nothing of the uncertainty of a variance from three seeds, and covers too
little: where seeds were the larger part, a nominal 95 % covered 79 % with three of them. Here the half-width is a
quantile times the standard error. Seeds have S − 1 degrees of freedom (two systems those of Welch 1947, Biometrika 34),
items N − 1. Two classical quantiles combine
them: Satterthwaite's, Student's with (Σ variances)² / Σ (variance² / freedom) (1946, Biometrics Bull. 2), and Cochran and
Cox's, the mean of both Student quantiles weighted by variance (Experimental Designs, 2nd ed. 1957, §4.14; Cochran 1964,
Biometrics 20). With three normal seeds the first covers down to 92 % and the second up to 97 %, whatever the parts'
sizes; a third of the first and two thirds of the second, which is used here, covers between 94.4 and 96.6 % (two
seeds: 92.8 to 97.4; a difference between three seeds and ten: 93.4 to 95.9). That share is this
module's own; `tests/statistics/test_statistics_coverage.py` measures what comes of it on 0/1 data for 3, 5 and 10 seeds.

Nested seeds (P pre-trainings, each fine-tuned F times): a pre-training's mean over its fine-tunings varies by both, so
that P such means are all that the formulae need, for any F. With P = 1 the fine-tunings are the units, and the
interval says nothing about other pre-trainings.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tlm.statistics.checks import confidence_level, correctness
from tlm.statistics.contrast import contrast, contrast_p_value
from tlm.statistics.estimate import Estimate
from tlm.statistics.spread import exact_interval, interval, seed_units, spread_of


def mean_accuracy(correct: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """Expected accuracy over seeds and items, with a t interval (see the module for the method).

    Args:
        correct: 0/1 of shape (items,) for a system without a seed, (seeds, items), or (pre-training seeds, fine-tuning
            seeds of each, items). One seed gives an interval over items alone, and the estimate says so.
        confidence: the interval's coverage, a share.

    Returns:
        An estimate in shares; `low` and `high` are cut to 0 and 1. Where every seed is right (or wrong) on every item,
        nothing varies: the interval is then Clopper and Pearson's for the number of items.

    Raises:
        ValueError: for NaN, values but 0 and 1, no seed, fewer than two items, or a confidence outside (0, 1).
    """
    confidence_level(confidence)
    cube = correctness(correct, "correct")
    units = seed_units(cube, seeded=np.ndim(correct) > 1)
    value = float(cube.mean())
    if cube.min() == cube.max():
        return exact_interval(value, cube.shape[-1], units, confidence)
    return interval(spread_of([units], cube.mean(axis=(0, 1))), value, [units], confidence, (0.0, 1.0))


def difference(a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95, matched: bool = False) -> Estimate:
    """Expected accuracy of `a` minus that of `b` on the same items, with a t interval (see the module).

    Args:
        a: 0/1, in one of the shapes of `mean_accuracy`.
        b: the same items in the same order; its seeds are independent of those of `a`, and may differ
            from them in number and nesting.
        confidence: the interval's coverage, a share.
        matched: whether both have the same seeds, in the same order; what they have in common by them then cancels.

    Returns:
        An estimate in shares, cut to −1 and 1. `resolved` is whether the interval excludes 0; with one seed on either
        side the interval is over items alone and nothing is resolved.

    Raises:
        ValueError: as `mean_accuracy`, and if the items do not match.
    """
    return contrast([a, b], [1, -1], confidence=confidence, matched=matched)


def difference_p_value(a: ArrayLike, b: ArrayLike, *, matched: bool = False) -> float:
    """Two-sided p-value of "the expected accuracies over seeds and items are equal"; arguments as of `difference`.

    It is 1 minus the confidence at which the interval of `difference` just reaches 0, and no less than 1e-30.

    Raises:
        ValueError: as `difference`, and if a system has one seed, which says nothing about other seeds.
    """
    return contrast_p_value([a, b], [1, -1], matched=matched)
