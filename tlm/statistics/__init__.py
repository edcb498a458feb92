"""Statistics of studies: estimates with intervals over seeds and test items, paired tests, and what predicts a gap."""

from __future__ import annotations

from tlm.statistics.accuracy import difference, difference_p_value, mean_accuracy
from tlm.statistics.estimate import Estimate
from tlm.statistics.paired import holm, paired_bootstrap_p_value
from tlm.statistics.prediction import cross_validated_r2, partial_correlation

__all__ = [
    "Estimate",
    "cross_validated_r2",
    "difference",
    "difference_p_value",
    "holm",
    "mean_accuracy",
    "paired_bootstrap_p_value",
    "partial_correlation",
]
