"""The headline of a study holds what its summary holds, under names that a chart can use."""

from __future__ import annotations

import pandas as pd
import pytest
from synthetic import MadeUp

from tlm.report.evidence import Evidence
from tlm.report.formatting import markdown_table
from tlm.report.headline import curves, figures, headline
from tlm.report.summary import summary


def test_figures_are_those_of_the_summary_by_task_system_and_set(made_up: MadeUp) -> None:
    frame = summary(Evidence(made_up.connection, made_up.study))
    found = figures(frame)
    for row in frame.to_dict("records"):
        corpus = f"ws{row['ws']}" + (f".{row['treatment']}" if isinstance(row["treatment"], str) else "")
        for name, column in (("test_accuracy", "pretrained"), ("gap", "gap")):
            assert found[f"{name}.{row['task']}.{row['architecture']}.{corpus}"] == pytest.approx(row[column] / 100)
    assert found["test_accuracy.topics.deep.ws0"] == pytest.approx(0.41)
    assert found["test_accuracy.topics.committee-pair.ws400"] == pytest.approx(0.6)
    assert found["test_accuracy.topics.tfidf"] == pytest.approx(0.55)


def test_the_headline_has_a_row_for_each_set_and_one_from_scratch_for_each_task(made_up: MadeUp) -> None:
    frame = summary(Evidence(made_up.connection, made_up.study))
    table = headline(frame)
    sets = frame[["task", "ws", "treatment"]].drop_duplicates()
    assert len(table.rows) == len(sets) + frame["task"].nunique()
    assert len({len(row) for row in table.rows} | {len(table.columns)}) == 1
    text = markdown_table(table, "")
    assert "| topics | 0 (scratch) | 41.0 |" in text and "(+30.0\\*)" in text


def test_what_was_not_measured_is_no_figure(made_up: MadeUp) -> None:
    frame = summary(Evidence(made_up.connection, made_up.study)).assign(gap=None, tfidf=float("nan"))
    assert not [name for name in figures(frame) if name.startswith("gap.") or name.endswith("tfidf")]
    assert "n/a" in markdown_table(headline(frame), "")


def test_curves_hold_accuracy_at_every_ws_without_treatments(made_up: MadeUp) -> None:
    frame = summary(Evidence(made_up.connection, made_up.study))
    found = curves(frame)
    plain = frame[frame["treatment"].isna()]
    for (task, name), group in plain.groupby(["task", "architecture"]):
        points = {int(row["ws"]): row["pretrained"] for row in group.to_dict("records")} | {0: group["scratch"].iloc[0]}
        assert found[f"accuracy_by_ws/{task}.{name}"] == pytest.approx(
            {ws: v / 100 for ws, v in points.items() if v == v}
        )
    assert found["accuracy_by_ws/topics.committee-pair"][400] == pytest.approx(0.6)
    assert len(found) == len(plain.groupby(["task", "architecture"])) + plain["task"].nunique(), (
        "a committee for each task"
    )


def test_a_summary_of_another_form_is_no_headline() -> None:
    for of in (headline, figures, curves):
        with pytest.raises(KeyError):
            of(pd.DataFrame({"task": ["a"]}))
