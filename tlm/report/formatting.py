"""Cells and tables, formatted once: the HTML page, its Markdown twin and docs/results.md show the same text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NOT_AVAILABLE = "n/a"
WORKFLOW = "workflowType=machine_learning"
"""Without it MLflow opens a page of its other half, which is for traces of prompts."""
Row = Mapping[str, Any]
"""One row of a query's result."""


@dataclass(frozen=True)
class Link:
    """The MLflow run that a figure comes from."""

    experiment_id: str
    run_id: str

    def url(self, mlflow_url: str) -> str:
        return f"{_runs_url(mlflow_url, self.experiment_id)}/{self.run_id}?{WORKFLOW}"


def experiment_url(mlflow_url: str, experiment_id: str) -> str:
    """The page of an experiment's runs."""
    return f"{_runs_url(mlflow_url, experiment_id)}?{WORKFLOW}"


def _runs_url(mlflow_url: str, experiment_id: str) -> str:
    return f"{mlflow_url.rstrip('/')}/#/experiments/{experiment_id}/runs"


@dataclass(frozen=True)
class Cell:
    """The text of one cell of a table, and the MLflow runs behind it (none where runs were not tracked)."""

    text: str
    links: tuple[Link, ...] = ()
    number: bool = True

    def markdown(self, mlflow_url: str) -> str:
        text = escape_markdown(self.text)
        if len(self.links) == 1:
            return f"[{text}]({self.links[0].url(mlflow_url)})"
        marks = " ".join(f"[{n}]({link.url(mlflow_url)})" for n, link in enumerate(self.links, 1))
        return f"{text} <sup>{marks}</sup>" if marks else text


@dataclass(frozen=True)
class Table:
    """A table with its caption; `note` says how to read it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold numbers, and are aligned to the right."""
        return tuple(all(row[place].number for row in self.rows) for place in range(len(self.columns)))


def word(text: object) -> Cell:
    """A cell of text; n/a for None."""
    return Cell(NOT_AVAILABLE if text is None else str(text), number=False)


def number(value: float | None, digits: int = 0, links: tuple[Link, ...] = (), *, scale: float = 1.0) -> Cell:
    """`value` × `scale` with thousands separators; n/a (and no link) where there is none."""
    if value is None or math.isnan(value):
        return Cell(NOT_AVAILABLE)
    return Cell(f"{value * scale:,.{digits}f}", links)


def percent(value: float | None, links: tuple[Link, ...] = ()) -> Cell:
    """A share as a percentage with one digit; n/a where there is none."""
    return number(value, 1, links, scale=100)


def signed(points: float) -> str:
    """`+1.2` or `−1.2`, with a true minus sign."""
    return f"{points:+.1f}".replace("-", "\N{MINUS SIGN}")


def links_of(row: Row) -> tuple[Link, ...]:
    """The MLflow runs behind a row: its own, or those of the `results` it sums up."""
    if "results" in row:
        return links(row["results"])
    return links([{"experiment_id": row["mlflow_experiment_id"], "run_id": row["mlflow_run_id"]}])


def links(runs: Iterable[Row]) -> tuple[Link, ...]:
    """The MLflow runs of rows with `experiment_id` and `run_id`; rows that were not tracked are left out."""
    return tuple(Link(str(run["experiment_id"]), str(run["run_id"])) for run in runs if run["run_id"])


def corpus_label(ws: int, treatment: str | None) -> str:
    """How a pre-training set is named to a reader."""
    if ws == 0:
        return "0 (scratch)"
    return f"{ws:,} · {treatment}" if treatment else f"{ws:,}"


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it stands."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", text)


def markdown_table(table: Table, mlflow_url: str) -> str:
    """The table in GitHub's Markdown."""
    rows: list[Sequence[str]] = [
        [escape_markdown(column) for column in table.columns],
        ["---:" if is_number else ":---" for is_number in table.numeric],
        *([cell.markdown(mlflow_url) for cell in row] for row in table.rows),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
