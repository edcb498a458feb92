"""The study of recipes says what was put into its evidence: a factor at equal accuracy, and what each lever is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_up import MadeUp, outcome, study

from flows.studies.recipe import LEVERS, LONGER, arms
from flows.studies.scales import SCALES
from tlm.report.evidence import Evidence
from tlm.report.findings import Findings, Outcome
from tlm.report.saved import FINDINGS_FILE, load_findings, save_findings
from tlm.report.study_systems import in_arm
from tlm.results.recipe import analyse
from tlm.study.recipes import RECIPES

WS = 400
ARMS = {"paper": {"budgets": [40, 400]}, "modern": {"budgets": [10, 100]}, "without-it": {"budgets": [100]}}
NOT_LEVERS = {
    "pretrain": {"learning_rate", "warmup_share", "max_grad_norm", "dropout"},
    "finetune": {"learning_rate", "warmup_share", "dropout"},
    "initialization": {"embedding_std"},
    "options": {"rope_theta"},
}
"""Fields of the recipes that are tuned with it, or mean nothing without another."""


def measured(
    paper: tuple[float, float],
    modern: tuple[float, float],
    without: float = 0.5,
    *,
    seeds: int = 3,
    a_step: float = 1e9,
) -> Evidence:
    """Expected accuracy at each budget; a step of any arm takes as many operations."""
    one = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}
    made = MadeUp(study(sizes=(WS,), tasks=("a", "b"), architectures=[{"name": "one", **one}], arms=ARMS), items=2_000)
    expected = {
        **dict(zip([("paper", 40), ("paper", 400)], paper, strict=True)),
        **dict(zip([("modern", 10), ("modern", 100)], modern, strict=True)),
        ("without-it", 100): without,
    }
    for task in ("a", "b"):
        for (arm, steps), accuracy in expected.items():
            name = in_arm("one", arm, steps)
            flops = {"pretrain_flops": a_step * steps, "finetune_flops": 1e12}
            made.finetuned(task, name, WS, accuracy, seeds=seeds, arm=arm, budget=steps, **flops)
    return made.evidence()


def trained(*accuracies: Any, **options: Any) -> Findings:
    return analyse(measured(*accuracies, **options))


@pytest.mark.parametrize(
    ("paper", "modern", "expected"),
    [
        ((0.3, 0.4), (0.5, 0.6), "yes"),  # better from the first point: more than 40 times
        ((0.4, 0.6), (0.4, 0.6), "no"),  # four times
        ((0.45, 0.52), (0.38, 0.62), "undecided at this scale"),
        ((0.5, 0.6), (0.3, 0.4), "no"),  # never as good
    ],
)
def test_the_factor_is_judged_by_its_whole_interval(
    paper: tuple[float, float], modern: tuple[float, float], expected: Outcome
) -> None:
    assert outcome(trained(paper, modern), "10 times fewer FLOPs", "all tasks") == expected


def test_a_curve_that_begins_above_the_other_gives_a_bound() -> None:
    findings = trained((0.3, 0.4), (0.5, 0.6))
    figure = next(verdict.figure for verdict in findings.verdicts if "one on a" in verdict.claim)
    assert figure == "> 40.0 [40.0, no end] (3 seeds) times"


def test_an_interval_without_end_is_saved_and_read_again(tmp_path: Path) -> None:
    evidence = measured((0.3, 0.4), (0.5, 0.6))
    findings = analyse(evidence)
    save_findings(findings, evidence, tmp_path)
    assert load_findings(tmp_path / FINDINGS_FILE).verdicts == findings.verdicts
    assert findings.verdicts[0].half_width is None and findings.verdicts[0].decided


def test_one_seed_decides_nothing_and_nothing_measured_breaks_nothing() -> None:
    one = trained((0.3, 0.4), (0.5, 0.6), seeds=1)
    assert {verdict.outcome for verdict in one.verdicts} == {"undecided at this scale"}
    for nothing in (MadeUp(study(arms=ARMS)), MadeUp(study())):
        findings = analyse(nothing.evidence())
        assert {verdict.outcome for verdict in findings.verdicts} == {"not measured"}
        assert all(plot.missing for plot in findings.plots)


def test_a_lever_is_worth_what_is_lost_without_it_at_the_same_steps() -> None:
    findings = trained((0.3, 0.4), (0.4, 0.6), without=0.5)
    assert outcome(findings, "better than the arm without-it after 100 steps") == "yes"
    assert outcome(trained((0.3, 0.4), (0.4, 0.6), without=0.7), "without-it") == "no"
    table = next(table for table in findings.tables if table.title == "What each lever is worth")
    row = next(row for row in table.rows if row[1].text == "without-it")
    assert row[3].text.startswith("−") and row[4].text.startswith(("2.", "3.", "4."))


def test_the_table_has_the_operations_of_each_arm_and_budget() -> None:
    table = trained((0.3, 0.4), (0.5, 0.6)).tables[0]
    assert [(row[1].text, row[2].text, row[3].text, row[4].text) for row in table.rows] == [
        *(("paper", "40", "0.040", "2.000"), ("paper", "400", "0.400", "2.000")),
        *(("modern", "10", "0.010", "2.000"), ("modern", "100", "0.100", "2.000")),
        ("without-it", "100", "0.100", "2.000"),
    ]


def test_the_studys_arms_take_every_lever_of_the_modern_recipe_away() -> None:
    paper, modern = RECIPES["paper"], RECIPES["modern"]
    taken = {(part, field) for lever in LEVERS.values() for part, fields in lever.items() for field in fields}
    for part, own in NOT_LEVERS.items():
        differ = {name for name, value in modern.get(part, {}).items() if paper[part].get(name) != value}
        assert differ - own == {field for of, field in taken if of == part} - own, part
    made = arms(SCALES["tiny"])
    assert list(made) == ["paper", "modern", *LEVERS]
    assert made["paper"].budgets == tuple(LONGER * steps for steps in made["modern"].budgets)
    without = {name: arm for name, arm in made.items() if name in LEVERS}
    assert all(arm.budgets == made["modern"].budgets[-1:] for arm in without.values())
    assert all(arm.model_copy(update={"budgets": ()}) != made["modern"] for arm in without.values())
