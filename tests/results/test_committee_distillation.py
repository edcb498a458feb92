"""The study of students says what was put into its evidence: what they keep of their committee's advantage."""

from __future__ import annotations

from typing import Any

import pytest
from made_up import SEEDS, MadeUp, outcome, study

from tlm.report.findings import UNDECIDED
from tlm.report.study_systems import distilled
from tlm.results.committee_distillation import analyse

WS = 400
SMALL: dict[str, Any] = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
MEMBERS = ("a", "b")
HALF, TWIN = "more than half", "better than its twin"


def taught(student: float, *, committee: float = 0.7, seeds: str = "crossed", **drawn: Any) -> MadeUp:
    """Members at 60 %, a committee of two, and a student of `a` at so much; three times three seeds, or three."""
    config = study(
        sizes=(WS,),
        architectures=[{"name": n, **SMALL, "intermediate_size": 8 + 8 * i} for i, n in enumerate(MEMBERS)],
        committees=[{"name": "pair", "members": MEMBERS}],
        seeds=seeds,
        distillation={"teacher": "pair", "students": ["a"]},
    )
    crossed = seeds == "crossed"
    many = {"tunings": SEEDS if crossed else 0, "spread": 0.003, **drawn}
    made = MadeUp(config, items=3_000)
    for name, accuracy in (*((member, 0.6) for member in MEMBERS), (distilled("a"), student)):
        made.finetuned("topics", name, WS, accuracy, **many)
    instances = SEEDS * (SEEDS if crossed else 1)
    return made.committee("topics", "pair", WS, 2, committee, instances=instances, spread=0.003)


@pytest.mark.parametrize("seeds", ["crossed", "paired"])
@pytest.mark.parametrize(("student", "half", "twin"), [(0.69, "yes", "yes"), (0.61, "no", UNDECIDED)])
def test_a_student_keeps_what_it_has_of_the_advantage(student: float, half: str, twin: str, seeds: str) -> None:
    findings = analyse(taught(student, seeds=seeds).evidence())
    assert outcome(findings, HALF) == half and (twin == UNDECIDED or outcome(findings, TWIN) == twin)
    verdict = next(each for each in findings.verdicts if HALF in each.claim)
    assert verdict.estimate is not None and verdict.unit == "% of the advantage"
    assert verdict.estimate.value == pytest.approx((student - 0.6) / 0.1, abs=0.15)
    assert f"{verdict.estimate.text()} %" in {cell.text for row in findings.tables[0].rows for cell in row}


def test_without_an_advantage_there_is_nothing_to_keep() -> None:
    findings = analyse(taught(0.65, committee=0.6).evidence())
    assert outcome(findings, HALF) == UNDECIDED and outcome(findings, TWIN) == "yes"


def test_a_worse_student_than_its_twin_is_a_no() -> None:
    assert outcome(analyse(taught(0.55).evidence()), TWIN) == "no"


def test_what_lacks_a_seed_or_a_system_is_not_measured() -> None:
    made = taught(0.65)
    rows = made.results.rows["results"]
    rows[:] = [row for row in rows if not (row["system"] == distilled("a") and row["finetune_seed"] == 2)]
    for found in (analyse(made.evidence()), analyse(MadeUp(made.results.study).evidence())):
        assert {verdict.outcome for verdict in found.verdicts} == {"not measured"}


def test_a_study_without_students_has_nothing_measured() -> None:
    assert [verdict.outcome for verdict in analyse(MadeUp(study()).evidence()).verdicts] == ["not measured"]


def test_the_cost_of_a_student_is_that_of_one_model() -> None:
    costs = analyse(taught(0.65).evidence()).tables[1]
    assert [[cell.text for cell in row[1:3]] for row in costs.rows] == [[distilled("a"), "1"], ["pair, soft", "2"]]
