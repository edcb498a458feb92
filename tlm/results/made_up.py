"""Results that nobody trained, drawn with a known truth: what a rehearsal analyses, and what analyses are tested on.

Whether a run gets an item right is drawn by a margin: a threshold that follows from the run's expected accuracy, minus how
hard the item is, a standard normal number. Of that, one part is the item's own (every system finds it hard), one part the
system's (all its seeds do), and the rest this run's. What is drawn depends on what it is of and on the seed, never on the
order of the calls.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from tlm.report.evidence import Evidence
from tlm.report.packed import SCHEMAS, unpacked
from tlm.study.config import StudyConfig

Margin = NDArray[np.float64]
"""(N,) of a run; an item is right where it is above 0. Of a committee: the mean of its members'."""
Right = NDArray[np.bool_]


@dataclass(frozen=True)
class Shares:
    """Parts of the variance of how hard an item is, over runs of one task."""

    task: float
    """That every system shares."""
    system: float
    """That the seeds of one system share beyond it."""


OF_UNITS = Shares(task=0.9, system=0.0)
"""Of units of a benchmark: most of how hard one is, it is for every model."""
OF_GROUPS = 0.3
"""How much a group's score varies with its margin: less than an item's, of which it is a mean."""


class MadeUpResults:
    """Collects rows of packed marts (`tlm.report.packed`), and draws what they hold."""

    def __init__(self, study: StudyConfig, *, seed: int = 0) -> None:
        self.study, self.seed = study, seed
        self.rows: dict[str, list[dict[str, Any]]] = {table: [] for table in SCHEMAS}
        self._items: dict[str, tuple[int, int]] = {}

    def margin(
        self,
        task: str,
        items: int,
        accuracy: float,
        run: Hashable,
        *,
        shares: Shares,
        spread: float = 0.0,
        seeded_by: Hashable = None,
        system: Hashable = None,
    ) -> Margin:
        """The margins of one run, (items,).

        Args:
            accuracy: what is expected of the system, a share.
            run: names the run.
            spread: standard deviation of what is expected of a run around it, over seeds.
            seeded_by: runs with the same value deviate alike (they start from one pre-training); default: the run alone.
            system: what shares `shares.system`; needed where that is not 0.
        """
        own = self.generator(run)
        deviation = (self.generator(*seeded_by) if isinstance(seeded_by, tuple) else own).standard_normal()
        threshold = ndtri(np.clip(accuracy + spread * deviation, 1e-6, 1 - 1e-6))
        noise = np.sqrt(1 - shares.task - shares.system) * own.standard_normal(items)
        hard = np.sqrt(shares.task) * self.generator("items of", task).standard_normal(items) + noise
        if shares.system:
            hard += np.sqrt(shares.system) * self.generator("system", task, system).standard_normal(items)
        return np.asarray(threshold - hard)

    def generator(self, *what: object) -> np.random.Generator:
        """Of this seed, for one thing."""
        return np.random.default_rng([self.seed, zlib.crc32(repr(what).encode())])

    # --- rows ---

    def add(self, table: str, **columns: Any) -> None:
        """A row; columns that are not named are null."""
        self.rows[table].append(columns)

    def result(self, key: str, kind: str, task: str, system: str, right_N: Right, *, labels: int, **more: Any) -> None:
        """A row of `results`, and which items were right."""
        self._items[task] = (len(right_N), labels)
        measured = {"accuracy": float(right_N.mean()), "test_items": len(right_N)}
        self.add("results", key=key, kind=kind, task=task, system=system, **measured, **more)
        if more.get("rule") is None:
            self.add("correct", key=key, correct=right_N)

    def options(
        self,
        task: str,
        normalization: str,
        system: str,
        accuracy: float,
        *,
        ws: int,
        seed: int,
        groups: bool,
        units: int,
        spread: float = 0.0,
        **recorded: float | None,
    ) -> None:
        """A row of `likelihood`: a model's score on each unit of a benchmark, and what needs no learning, at chance.

        Args:
            accuracy: what is expected of the system, a share.
            groups: a unit is a group of items, scored from 0 to 1; else an item, right or not.
            spread: standard deviation of what is expected of a run around it, over seeds.
            recorded: other columns (layers, flops_share, heldout_bits_per_byte).
        """
        key = "/".join(map(str, ("likelihood", task, normalization, system, ws, seed)))
        margin_U = self.margin(task, units, accuracy, key, shares=OF_UNITS, spread=spread)
        own_U = ndtr(margin_U * OF_GROUPS) if groups else (margin_U > 0).astype(float)
        if groups:
            own_U = np.clip(own_U + accuracy - ndtr(ndtri(accuracy) * OF_GROUPS), 0, 1)
        at_chance = [0.5] * units
        nulls = dict.fromkeys(("untrained", "fewest_tokens", "fewest_bytes", "ngram"), at_chance)
        about: dict[str, Any] = {"key": key, "task": task, "normalization": normalization, "system": system, "ws": ws}
        about |= {"unit": [item_name(number) for number in range(units)], **recorded}
        self.add("likelihood", **about, pretrain_seed=seed, chance=0.5, model=own_U.tolist(), **nulls)

    def tables(self) -> dict[str, pa.Table]:
        """Everything that was added, packed."""
        items = [
            {"task": task, "item_id": item_name(number), "label": number % labels}
            for task, (count, labels) in self._items.items()
            for number in range(count)
        ]
        return {name: _table(schema, items if name == "items" else self.rows[name]) for name, schema in SCHEMAS.items()}

    def evidence(self) -> Evidence:
        """Everything that was added, as an analysis looks it up."""
        return Evidence(unpacked(self.tables()), self.study)


def item_name(number: int) -> str:
    """Of the `number`-th item of a task; names are in the order of numbers."""
    return f"item{number:07d}"


def _table(schema: pa.Schema, rows: list[dict[str, Any]]) -> pa.Table:
    columns: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        for name in schema.names:
            columns[name].append(row.get(name))
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)
