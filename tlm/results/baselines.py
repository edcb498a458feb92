"""What a task yields without any language model: beside every study's answer, for no accuracy can be weighed without it."""

from __future__ import annotations

from tlm.report.comparison import shown
from tlm.report.evidence import Evidence
from tlm.report.formatting import Cell, Table, word
from tlm.report.study_systems import BASELINE_NAMES
from tlm.statistics import mean_accuracy


def baseline_table(evidence: Evidence) -> list[Table]:
    """A row for each task, a column for each of the study's baselines; no table if it has none."""
    names = evidence.study.baselines
    if not names:
        return []
    rows = [
        (word(task.name), *(_accuracy(evidence, task.name, name) for name in names)) for task in evidence.study.tasks
    ]
    return [
        Table(
            "Baselines: accuracy without a language model",
            ("Task", *(f"{BASELINE_NAMES.get(name, name)}, %" for name in names)),
            tuple(rows),
            "Trained and tested on the same items as the models. They have no seed: intervals are over test items.",
        )
    ]


def _accuracy(evidence: Evidence, task: str, name: str) -> Cell:
    correct_N = evidence.baseline(task, name)
    return shown(None if correct_N is None else mean_accuracy(correct_N))
