"""Verdicts in a matrix: by claim and by the task that it is asked of, each with the mark of its answer."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import study

from tlm.report.findings import NOT_MEASURED, UNDECIDED, Outcome, Verdict
from tlm.report.intervals import of_verdicts
from tlm.report.matrix import ANSWER_OF, MARKS, WHOLE, by_claim, matrix_of, matrix_table, tally_of
from tlm.statistics import Estimate
from tlm.study.config import StudyConfig

OUTCOMES: tuple[Outcome, ...] = ("reproduced", "not reproduced", "yes", "no", UNDECIDED, NOT_MEASURED)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> StudyConfig:
    return study(tmp_path_factory.mktemp("raw"))  # its tasks are topics and relations


def test_a_claim_of_several_tasks_stands_once(config: StudyConfig) -> None:
    verdicts = [
        Verdict("Pre-training helps (deep on topics)", "yes", "+1.0", "90"),
        Verdict("Pre-training helps (deep on relations)", "no", "−1.0"),
        Verdict("One for all", UNDECIDED, "0.0"),
    ]
    table = matrix_table(matrix_of(verdicts, config))
    assert table.columns == ("Claim or question", "topics", "relations", WHOLE, "Paper")
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["Pre-training helps (deep)", "✔ +1.0", "✘ −1.0", "", "90"],
        ["One for all", "", "", "○ 0.0", "n/a"],
    ]


def test_a_claim_may_begin_with_its_task(config: StudyConfig) -> None:
    verdicts = [Verdict(f"On {task}, a committee of 2 wins", "yes", "1") for task in ("topics", "relations")]
    matrix = matrix_of(verdicts, config)
    assert matrix.columns == ("topics", "relations")
    assert [claim for claim, _ in matrix.rows] == ["A committee of 2 wins"]


def test_a_figure_of_the_paper_that_is_one_stands_below(config: StudyConfig) -> None:
    verdicts = [Verdict(f"A claim on {task}", "yes", "1", "lower (Table 4)") for task in ("topics", "relations")]
    table = matrix_table(matrix_of(verdicts, config))
    assert "Paper" not in table.columns and table.note == "The paper: lower (Table 4)."


@pytest.mark.parametrize(
    "claim",
    [
        *("On topics-second alone", "As good on topics as on relations", "On topics, better than on relations"),
        *("It went on topicsless", "It went on topics.second"),
    ],
)
def test_a_claim_that_names_no_task_or_two_is_one_of_the_whole(config: StudyConfig, claim: str) -> None:
    assert matrix_of([Verdict(claim, "yes", "1")], config).rows[0][0] == claim
    assert matrix_of([Verdict(claim, "yes", "1")], config).columns == (WHOLE,)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["A", "B", "C"]), st.sampled_from(["topics", "relations", None]), st.sampled_from(OUTCOMES)
        )
    )
)
def test_no_verdict_is_lost_or_told_twice(config: StudyConfig, told: list[tuple[str, str | None, Outcome]]) -> None:
    verdicts = [
        Verdict(f"{claim} on {task}" if task else claim, outcome, f"<{place}>")
        for place, (claim, task, outcome) in enumerate(told)
    ]
    matrix = matrix_of(verdicts, config)
    shown = "".join(cell.text for row in matrix_table(matrix).rows for cell in row)
    assert all(shown.count(f"{MARKS[v.outcome]} {v.figure}") == 1 for v in verdicts)
    by_answer = [v for answer in {*ANSWER_OF.values()} for _, fell in by_claim(matrix, answer) for _, v in fell]
    assert sorted(v.figure for v in by_answer) == sorted(v.figure for v in verdicts)
    assert sum(tally_of(verdicts).values()) == len(verdicts)


def test_what_verdicts_rest_on_is_drawn_in_the_unit_that_most_have(config: StudyConfig) -> None:
    found = Estimate(0.012, 0.010, 0.015, 0.0025, 3, "t")
    points = [
        Verdict(f"A claim on {task}", outcome, "", estimate=found)
        for task, outcome in (("topics", "yes"), ("relations", "no"))
    ]
    verdicts: list[Verdict] = [
        *points,
        Verdict("A ratio", "yes", "", estimate=replace(found, value=7, low=6, high=8), unit="times"),
        Verdict("An exact number", "no", "", estimate=Estimate(0.9, 0.9, 0.9, 0.0, 0, "exact")),
        Verdict("Another claim on topics", NOT_MEASURED, ""),
    ]
    plot = of_verdicts(matrix_of(verdicts, config), "it")
    assert plot is not None
    root = ElementTree.fromstring(plot.svg.replace("xlink:href", "href"))
    titles = [each.text for each in root.iter("title")]
    assert titles == ["A claim, topics: established, 1.2 [1, 1.5]", "A claim, relations: refuted, 1.2 [1, 1.5]"]
    assert "A ratio" not in plot.svg and "An exact number" not in plot.svg and "Another claim" not in plot.svg
    assert of_verdicts(matrix_of(verdicts[-1:], config), "it") is None


def test_answers_are_told_apart_without_colour(config: StudyConfig) -> None:
    found, shapes = Estimate(0.012, 0.010, 0.015, 0.0025, 3, "t"), set()
    for outcome in OUTCOMES[:5]:
        plot = of_verdicts(matrix_of([Verdict("A claim on topics", outcome, "", estimate=found)], config), "it")
        assert plot is not None
        marks = re.sub(r"<title>.*?</title>", "", plot.svg)
        shapes.add(tuple(re.findall(r' d="([^"]*)"|(fill-opacity)', marks)))
    assert len(shapes) == 3, "established, refuted, open"
