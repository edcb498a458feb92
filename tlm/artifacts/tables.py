"""Tables among the outputs of artifacts: what a stage declares of its Parquet files, and the catalogue reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Table:
    """Rows that every artifact with such a file adds to one table: its name, and its columns with their DuckDB types.

    Stages that make rows of the same meaning declare the same table: whatever reads it then reads theirs too.
    """

    name: str
    columns: Mapping[str, str]

    def __post_init__(self) -> None:
        """Names and types become SQL. ValueError if they are not plain words."""
        words = [self.name, *self.columns, *(kind.removesuffix("[]") for kind in self.columns.values())]
        if odd := [word for word in words if not word.isidentifier()]:
            raise ValueError(f"table {self.name}: {odd} are not names of columns or types")

    def __hash__(self) -> int:
        return hash((self.name, *self.columns.items()))


class StageKind(Protocol):
    """What the catalogue has to know of a stage, a class of `tlm.stages`."""

    @property
    def role(self) -> str | None:
        """What its artifacts are to whoever reads them: a pre-training set ("corpus"), a language model ("pretrains"), the
        predictions of one system ("predicts") or of several together ("combines")."""

    @property
    def outputs(self) -> Mapping[str, Table | None]:
        """File → its table; None for a file that is no table, or none that the catalogue reads."""


Stages = Mapping[str, StageKind]
"""By name."""

PREDICTIONS = Table("predictions", {"item_id": "varchar", "part": "varchar", "label": "integer", "logits": "float[]"})
"""The dev and test items of a task, each with its label and a system's logits, one for each label."""

METRICS = Table("metrics", {"step": "bigint", "epoch": "bigint", "name": "varchar", "value": "double"})
"""A training's learning curve."""
