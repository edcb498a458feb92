"""Reading an accuracy curve backwards: how much natural data is an accuracy worth?"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from tlm.statistics.checks import same_length, vector


def equivalent_ws(ws: ArrayLike, accuracy: ArrayLike, target: float) -> float | None:
    """The Ws whose natural accuracy equals `target`, by linear interpolation of accuracy in log Ws.

    Noise may let an accuracy fall as Ws grows, and a target would then have several answers. The curve is first made
    non-decreasing by least squares (isotonic regression: Barlow et al. 1972), and on a plateau the smallest Ws counts.

    Args:
        ws: paragraphs, positive and distinct, in any order, shape (points,).
        accuracy: mean accuracy at each, shape (points,).
        target: an accuracy in the same unit.

    Returns:
        Paragraphs, or None where the curve does not reach the target or begins above it: nothing is extrapolated.

    Raises:
        ValueError: for NaN, an empty or mismatched curve, a Ws that is not positive, or one given twice.
    """
    sizes, curve = vector(ws, "ws"), vector(accuracy, "accuracy")
    same_length(ws=sizes, accuracy=curve)
    if sizes.min() <= 0:
        raise ValueError(f"ws holds {sizes.min():g}, which has no logarithm; leave training from scratch out.")
    if len(np.unique(sizes)) < len(sizes):
        raise ValueError("ws holds a size twice; give the mean accuracy over seeds at each.")
    if not np.isfinite(target):
        raise ValueError(f"target is {target}; give an accuracy.")
    order = np.argsort(sizes)
    logs, fitted = np.log(sizes[order]), isotonic_regression(curve[order]).x
    if not fitted[0] <= target <= fitted[-1]:
        return None
    above = int(np.searchsorted(fitted, target))  # the first point at or above the target
    if fitted[above] == target:
        return float(sizes[order][above])
    share = (target - fitted[above - 1]) / (fitted[above] - fitted[above - 1])
    between = np.exp(logs[above - 1] + share * (logs[above] - logs[above - 1]))
    return float(np.clip(between, *sizes[order][above - 1 : above + 1]))  # exp(log(x)) may miss x by a rounding
