"""The headline of a study, from its summary (`tlm.report.summary.summary`): one table to read and figures to chart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from tlm.report.formatting import Cell, Table, corpus_label, number, signed, word
from tlm.study.base import slugify

COMMITTEE = "committee "
"""How a committee's column of the summary begins; its name follows."""
CURVES = "accuracy_by_ws"
"""The section of MLflow's charts that shows them: what stands before the slash of a metric's name."""
HOW_TO_READ = (
    "Test accuracy, %; in parentheses the gap over the same model from scratch, in points, * where its 95 % interval "
    "excludes 0."
)


def headline(frame: pd.DataFrame) -> Table:
    """A row for each task and pre-training set, and of each task one from scratch; a column for each system.

    Raises:
        KeyError: if the summary is not of this version's form.
    """
    names = list(dict.fromkeys(frame["architecture"]))
    others = [*_committees(frame), "tfidf"]
    rows: list[tuple[Cell, ...]] = []
    for (task, ws, treatment), group in _by_set(frame):
        of = {str(row["architecture"]): row for row in group.to_dict("records")}
        first = group.iloc[0]
        if not any(row[0].text == task for row in rows):
            scratch = [number(_value(of.get(name, {}).get("scratch")), 1) for name in names]
            rows.append((word(task), word(corpus_label(0, None)), *scratch, *(word("") for _ in others)))
        cells = [_with_gap(of.get(name)) for name in names]
        rows.append(
            (
                word(task),
                word(corpus_label(int(ws), treatment)),
                *cells,
                *(number(_value(first[name]), 1) for name in others),
            )
        )
    headings = ("Task", "Ws", *names, *(name.removeprefix(COMMITTEE) for name in others[:-1]), "TF-IDF")
    return Table("Test accuracy, %", headings, tuple(rows), HOW_TO_READ)


def figures(frame: pd.DataFrame) -> dict[str, float]:
    """The numbers of the summary by name, as shares: `test_accuracy.<task>.<system>.ws<Ws>` and `gap.…` likewise.

    A treatment's label stands at the end; Ws = 0 is from scratch, and a baseline has no Ws. What was not measured is none.

    Raises:
        KeyError: as `headline`.
    """
    found: dict[str, float | None] = {}
    for task, system, ws, treatment, value in _accuracies(frame):
        found[f"test_accuracy.{task}.{system}.{_set(ws, treatment)}"] = value
    for row in frame.to_dict("records"):
        task = slugify(row["task"])
        found[f"gap.{task}.{slugify(row['architecture'])}.{_set(int(row['ws']), row['treatment'])}"] = _share(
            row["gap"]
        )
        found[f"test_accuracy.{task}.tfidf"] = _share(row["tfidf"])
    return {name: value for name, value in found.items() if value is not None}


def curves(frame: pd.DataFrame) -> dict[str, dict[int, float]]:
    """Accuracy against Ws (0: scratch), as shares, without treatments: `accuracy_by_ws/<task>.<system>`.

    Raises:
        KeyError: as `headline`.
    """
    found: dict[str, dict[int, float]] = {}
    for task, system, ws, treatment, value in _accuracies(frame):
        if value is not None and not isinstance(treatment, str):
            found.setdefault(f"{CURVES}/{task}.{system}", {})[ws] = value
    return found


def _accuracies(frame: pd.DataFrame) -> Iterator[tuple[str, str, int, Any, float | None]]:
    """(task, system, Ws, treatment, share of items) of every architecture, from scratch too, and every committee."""
    for row in frame.to_dict("records"):
        task, ws, treatment = slugify(row["task"]), int(row["ws"]), row["treatment"]
        yield task, slugify(row["architecture"]), ws, treatment, _share(row["pretrained"])
        yield task, slugify(row["architecture"]), 0, None, _share(row["scratch"])
        for name in _committees(frame):
            yield task, slugify(name), ws, treatment, _share(row[name])


def _set(ws: int, treatment: Any) -> str:
    return f"ws{ws}" + (f".{slugify(treatment)}" if isinstance(treatment, str) else "")


def _share(percent: Any) -> float | None:
    value = _value(percent)
    return None if value is None else round(value / 100, 9)


def _by_set(frame: pd.DataFrame) -> Iterator[tuple[tuple[str, int, str | None], pd.DataFrame]]:
    """The rows of each task and pre-training set, in the order of the summary."""
    keys: Any
    for keys, group in frame.groupby(["task", "ws", "treatment"], sort=False, dropna=False):
        task, ws, treatment = keys
        yield (str(task), int(ws), treatment if isinstance(treatment, str) else None), group


def _committees(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame.columns if name.startswith(COMMITTEE)]


def _with_gap(row: Mapping[Any, Any] | None) -> Cell:
    accuracy = _value(row["pretrained"]) if row else None
    if row is None or accuracy is None or _value(row["gap"]) is None:
        return number(accuracy, 1)
    return Cell(f"{accuracy:.1f} ({signed(row['gap'])}{'*' if row['resolved'] else ''})")


def _value(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)
