"""The statistics of `tlm.statistics` as functions that SQL models call, so that the marts hold no statistics of their own.

`accuracy_estimate(kind, correctness)` and `difference_estimate(kind, correctness, correctness)` return the fields of
`tlm.statistics.Estimate` and `resolved`; NULL where nothing was measured, or on a single test item. `correctness` has a row
for each run of a system.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from tlm.statistics import Estimate, difference, mean_accuracy
from tlm.statistics.runs import LEAST_ITEMS, Run, stack_runs

CORRECTNESS = "STRUCT(pretrain_seed BIGINT, finetune_seed BIGINT, correct BOOLEAN[])[]"
ESTIMATE = (
    "STRUCT(value DOUBLE, low DOUBLE, high DOUBLE, half_width DOUBLE, seeds BIGINT, method VARCHAR, unit VARCHAR, "
    "resolved BOOLEAN)"
)


@contextmanager
def statistics_in_sql(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Within it, SQL on `connection` may call the functions; a function that stays registered outlives its connection."""
    functions = {"accuracy_estimate": (_accuracy, 1), "difference_estimate": (_difference, 2)}
    for name, (function, systems) in functions.items():
        parameters: list[Any] = ["VARCHAR", *[CORRECTNESS] * systems]
        connection.create_function(name, function, parameters, ESTIMATE, null_handling="special")  # type: ignore[call-overload]
    try:
        yield
    finally:
        for name in functions:
            connection.remove_function(name)


Rows = Sequence[dict[str, Any]]


def _accuracy(kind: str, rows: Rows | None) -> dict[str, Any] | None:
    correct = _correctness(kind, rows)
    return None if correct is None else _columns(kind, mean_accuracy(correct))


def _difference(kind: str, rows: Rows | None, others: Rows | None) -> dict[str, Any] | None:
    a, b = _correctness(kind, rows), _correctness(kind, others)
    return None if a is None or b is None else _columns(kind, difference(a, b))


def _correctness(kind: str, rows: Rows | None) -> NDArray[np.bool_] | None:
    """In a shape that `mean_accuracy` takes: each committee is a repetition, and what has no seed (a baseline) has none."""
    if not rows or any(row["correct"] is None or len(row["correct"]) < LEAST_ITEMS for row in rows):
        return None
    if kind == "committee":
        return np.array([row["correct"] for row in rows], dtype=bool)
    runs = [Run(row["pretrain_seed"], row["finetune_seed"], row["correct"]) for row in rows]
    if all(run.pretrain_seed is None and run.finetune_seed is None for run in runs):
        return np.array(runs[0].correct_N, dtype=bool)
    return stack_runs(runs)


def _columns(kind: str, estimate: Estimate) -> dict[str, Any]:
    named = replace(estimate, unit="committee") if kind == "committee" else estimate
    return {**asdict(named), "resolved": named.resolved}
