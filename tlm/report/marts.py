"""What a report looks up in the catalogue's marts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from tlm.statistics import Estimate

if TYPE_CHECKING:
    from tlm.artifacts.marts import Connection

Rows = list[dict[str, Any]]

SCORES_BY_UNIT = """select
    likelihood.key, task, normalization, system, ws, treatment, pretrain_seed, chance, layers, flops_share,
    heldout_bits_per_byte, mlflow_run_id, mlflow_experiment_id, units.* exclude (key)
from likelihood inner join (
    select
        key, list(unit order by unit) as unit, list(model order by unit) as model,
        list(untrained order by unit) as untrained, list(fewest_tokens order by unit) as fewest_tokens,
        list(fewest_bytes order by unit) as fewest_bytes, list(ngram order by unit) as ngram
    from likelihood_units group by key
) as units on likelihood.key = units.key"""
"""A row for each score by likelihood, with what it is the mean over as lists."""


def rows(connection: Connection, sql: str) -> Rows:
    """The result of a query, a dictionary for each row."""
    return list(connection.sql(sql).to_arrow_table().to_pylist())


class Gaps:
    """The mart `gaps`, to look results up in."""

    def __init__(self, connection: Connection) -> None:
        self.rows = rows(connection, "select * from gaps")

    def find(self, **wanted: Any) -> dict[str, Any] | None:
        """The first row with these values; a column that is not named may hold anything."""
        return next((row for row in self.rows if all(row[name] == value for name, value in wanted.items())), None)


def estimate(row: Mapping[str, Any] | None, name: str) -> Estimate | None:
    """The accuracy or the gap of a row of the mart `gaps`, as `tlm.statistics` made it.

    Args:
        row: None gives None.
        name: accuracy or gap.
    """
    found = None if row is None else row[f"{name}_estimate"]
    return None if found is None else Estimate(**{field.name: found[field.name] for field in fields(Estimate)})
