"""Statistics of studies: estimates with intervals over seeds and test items, paired tests, and what predicts a gap."""

from __future__ import annotations

from tlm.statistics.accuracy import difference, difference_p_value, mean_accuracy
from tlm.statistics.bootstrap import bootstrap_difference, bootstrap_mean_accuracy
from tlm.statistics.curve import equivalent_ws
from tlm.statistics.estimate import Estimate
from tlm.statistics.paired import PairedTest, holm, mcnemar, paired_bootstrap_test
from tlm.statistics.prediction import cross_validated_r2, partial_correlation

__all__ = [
    "Estimate",
    "PairedTest",
    "bootstrap_difference",
    "bootstrap_mean_accuracy",
    "cross_validated_r2",
    "difference",
    "difference_p_value",
    "equivalent_ws",
    "holm",
    "mcnemar",
    "mean_accuracy",
    "paired_bootstrap_test",
    "partial_correlation",
]
