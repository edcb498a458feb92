"""Gap and committee by number of labels: what is found is what was put in."""

from __future__ import annotations

from typing import Any

import pytest
from made_up import MadeUp, study

from tlm.report.evidence import Evidence
from tlm.results.task_complexity import analyse, number_of_labels

LABELS = (2, 4, 16, 64)
UNRESOLVED = "undecided at this scale"


def config(labels: tuple[int, ...] = LABELS, **changes: Any) -> Any:
    small = {"hidden_size": 8, "num_attention_heads": 2}
    layers = {"deep": (6, 32), "wide": (1, 24), "shallow": (1, 16)}
    settings: dict[str, Any] = {
        "architectures": [
            {"name": name, **small, "num_hidden_layers": depth, "intermediate_size": width}
            for name, (depth, width) in layers.items()
        ],
        "committees": [{"name": "pair", "members": ("wide", "shallow")}],
    }
    made = study(sizes=(0, 400), tasks=tuple(f"topics{each}" for each in labels), **{**settings, **changes})
    cut = [task.model_copy(update={"labels": each}) for task, each in zip(made.tasks, labels, strict=True)]
    return made.model_copy(update={"tasks": tuple(cut)})


def measured(
    deep: tuple[float, ...],
    shallow: tuple[float, ...] = (0.1,) * 4,
    committee: tuple[float, ...] = (0.02,) * 4,
    *,
    seeds: int = 3,
    labels: tuple[int, ...] = LABELS,
) -> Evidence:
    """By task: the gap of the deep model, that of both shallow ones, and the committee's advantage."""
    made = MadeUp(config(labels), items=1_500)
    for each, *values in zip(labels, deep, shallow, committee, strict=False):
        task = f"topics{each}"
        for system, gap in (("deep", values[0]), ("wide", values[1]), ("shallow", values[1])):
            made.finetuned(task, system, 0, 0.5, seeds=seeds, spread=0.004)
            made.finetuned(task, system, 400, 0.5 + gap, seeds=seeds, spread=0.004)
        made.committee(task, "pair", 400, 2, 0.5 + values[1] + values[2], instances=seeds, spread=0.004)
    return made.evidence()


def outcomes(evidence: Evidence) -> list[str]:
    """Of the gap of the deep model, that of the shallow ones, and the committee's advantage."""
    return [verdict.outcome for verdict in analyse(evidence).verdicts]


def test_trends_have_the_right_sign_and_size(laid_out: None) -> None:
    evidence = measured((0.05, 0.1, 0.2, 0.3), (0.3, 0.25, 0.15, 0.05), (0.0, 0.04, 0.1, 0.15))
    findings = analyse(evidence)
    assert [verdict.outcome for verdict in findings.verdicts] == ["yes", "no", "yes"]
    assert all(verdict.links for verdict in findings.verdicts)
    slopes = [float(row[2].text.split()[0].replace("−", "-")) for row in findings.tables[0].rows]
    assert slopes == pytest.approx([5, -5, 3], abs=1.2)
    assert [row[2].text for row in findings.tables[1].rows] == ["2", "4", "16", "64"] * 3
    assert all(plot.png for plot in findings.plots)


def test_a_gap_of_two_labels_is_doubled_for_chance() -> None:
    rows = analyse(measured((0.1,) * 4)).tables[1].rows
    raw, fair = (float(rows[0][place].text.split()[0]) for place in (3, 4))
    assert fair == pytest.approx(2 * raw, abs=0.11)  # of one decimal each


def test_no_trend_is_not_resolved() -> None:
    assert outcomes(measured((0.1,) * 4)) == [UNRESOLVED] * 3


def test_one_seed_resolves_nothing() -> None:
    assert outcomes(measured((0.0, 0.1, 0.3, 0.4), (0.0, 0.1, 0.3, 0.4), seeds=1)) == [UNRESOLVED] * 3


def test_two_tasks_are_no_trend() -> None:
    assert outcomes(measured((0.1, 0.3), labels=(2, 64))) == ["not measured"] * 3


def test_what_is_missing_is_not_measured() -> None:
    assert outcomes(MadeUp(config()).evidence()) == ["not measured"] * 3
    assert outcomes(MadeUp(study()).evidence()) == ["not measured"] * 3
    assert outcomes(MadeUp(config(committees=())).evidence()) == ["not measured"] * 3


def test_labels_that_the_study_does_not_cut_are_counted() -> None:
    made = MadeUp(study(), labels=7).finetuned("topics", "deep", 0, 0.5)
    assert number_of_labels(made.evidence()) == {"topics": 7}
