"""The terminal's summary of a study: the same numbers as the report's, one line for each comparison."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pandas as pd

from tlm.artifacts.record import Record
from tlm.report.evidence import NULLS, Evidence
from tlm.report.formatting import Row, corpus_label, signed
from tlm.report.marts import Rows
from tlm.report.study_systems import corpora, models

if TYPE_CHECKING:
    from rich.table import Table as RichTable

COLUMNS = (
    *("task", "ws", "treatment", "type_overlap", "occurrence_overlap", "architecture", "scratch", "pretrained", "gap"),
    *("gap_half_width", "resolved"),
)


def summary(evidence: Evidence) -> pd.DataFrame:
    """One row for each task, pre-training set and architecture. Accuracies and overlaps in percent, gaps in points."""
    study, gaps = evidence.study, evidence.gaps
    columns = [*COLUMNS, *(f"committee {committee.name}" for committee in study.committees), "tfidf"]
    found: Rows = []
    for task in study.tasks:
        tfidf = gaps.find(task=task.name, kind="baseline", system="tfidf")
        for ws, treatment in corpora(study, task.name):
            for system in models(study):
                row = gaps.find(task=task.name, kind="finetune", system=system, ws=ws, treatment=treatment)
                if row is None or not ws:
                    continue
                line = {
                    "task": task.name,
                    "ws": ws,
                    "treatment": treatment,
                    "type_overlap": _percent(row, "type_overlap"),
                    "occurrence_overlap": _percent(row, "occurrence_overlap"),
                    "architecture": system,
                    "scratch": _percent(row, "scratch_accuracy"),
                    "pretrained": _percent(row, "accuracy"),
                    "gap": _percent(row, "gap"),
                    "gap_half_width": _percent(row, "gap_half_width"),
                    "resolved": bool(row["resolved"]),
                }
                for committee in study.committees:
                    wanted = {"task": task.name, "kind": "committee", "system": committee.name, "rule": "soft"}
                    soft = gaps.find(**wanted, ws=ws, treatment=treatment)
                    line[f"committee {committee.name}"] = _percent(soft, "accuracy")
                found.append({**line, "tfidf": _percent(tfidf, "accuracy")})
    return pd.DataFrame(found, columns=columns)


def to_rich(frame: pd.DataFrame) -> RichTable:
    """The summary as a table that fits a terminal of 80 columns."""
    from rich.table import Table as RichTable

    committees = [name for name in frame.columns if name.startswith("committee ")]
    names = ", ".join(name.removeprefix("committee ") for name in committees)
    table = RichTable(
        title="Test accuracy, %",
        caption="Overl.: share of the task's token types that the pre-training set holds, %. Gap: pre-trained minus "
        "scratch, points ± half-width of the 95 % interval over seeds and test items (none with one seed); * resolved: the "
        "interval excludes 0." + (f" Committee: soft, of {names}, with this Ws." if names else ""),
        box=None,
        padding=(0, 1, 0, 0),
    )
    for heading in ("Task", "Ws", "Model"):
        table.add_column(heading)
    for heading in ("Overl.", "Scratch", "Pre-tr.", "Gap", *("Comm." for _ in committees), "TF-IDF"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in frame.to_dict("records"):
        treatment = row["treatment"] if isinstance(row["treatment"], str) else None
        gap = "n/a"
        if pd.notna(row["gap"]):
            half_width = "" if pd.isna(row["gap_half_width"]) else f" ± {row['gap_half_width']:.1f}"
            gap = f"{signed(row['gap'])}{half_width}{'*' if row['resolved'] else ' '}"
        table.add_row(
            str(row["task"]),
            corpus_label(row["ws"], treatment),
            str(row["architecture"]),
            *(_one_digit(row[name]) for name in ("type_overlap", "scratch", "pretrained")),
            gap,
            *(_one_digit(row[name]) for name in (*committees, "tfidf")),
        )
    return table


def scores_to_rich(records: Iterable[Record]) -> RichTable:
    """Scores by likelihood, of records of the stage `likelihood`, as a table that fits a terminal of 80 columns."""
    from rich.table import Table as RichTable

    table = RichTable(
        title="Scores by likelihood, %",
        caption="Best null: the highest of what the untrained model, the fewest tokens, the fewest bytes and a 5-gram "
        "model score on the same items.",
        box=None,
        padding=(0, 1, 0, 0),
    )
    for heading in ("Benchmark", "Ws", "Model"):
        table.add_column(heading)
    for heading in ("Score", "Chance", "Best null"):
        table.add_column(heading, justify="right", no_wrap=True)
    for record in records:
        labels, facts = record.labels, record.facts
        budget = f"{labels['budget']} steps" if labels.get("budget") else None
        model = ", ".join(str(part) for part in (labels["arch"], labels.get("arm"), budget) if part)
        shares = (facts["score"], facts["chance"], max(facts[name] for name in NULLS))
        treatment = labels.get("treatment")
        corpus = corpus_label(int(labels["ws"] or 0), None if treatment is None else str(treatment))
        table.add_row(str(labels["task"]), corpus, model, *(_one_digit(100 * share) for share in shares))
    return table


def _percent(row: Row | None, name: str) -> float | None:
    return None if row is None or row[name] is None else 100 * float(row[name])


def _one_digit(value: float | None) -> str:
    return "n/a" if value is None or pd.isna(value) else f"{value:.1f}"
