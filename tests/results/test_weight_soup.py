"""The study of soups says what was put into its evidence."""

from __future__ import annotations

from typing import Any

import pytest
from made_up import SEEDS, MadeUp, outcome, study

from tlm.report.findings import UNDECIDED
from tlm.report.study_systems import in_arm
from tlm.results.weight_soup import analyse
from tlm.study.soups import SOUP

WS = 400
MEMBER, COMMITTEE = "better than its mean member", "as good as their soft committee"


def cooked(soup: float, committee: float = 0.7, **changes: Any) -> MadeUp:
    """Members at 60 %: three pre-trainings, each fine-tuned three times."""
    given = {"committees": [{"name": "own", "members": ["shallow"]}], "seeds": "crossed", "soups": ["shallow"]}
    made = MadeUp(study(sizes=(WS,), **{**given, **changes}), items=4_000)
    made.finetuned("topics", "shallow", WS, 0.6, tunings=SEEDS, spread=0.002)
    made.committee("topics", "own", WS, SEEDS, committee, spread=0.002)
    for seed in range(SEEDS):
        right_N = made._draw("topics", soup, 0.002, f"soup/{seed}")
        about = {"ws": WS, "arch": "shallow", "arm": SOUP, "init": "pretrained", "pretrain_seed": seed}
        made._result(f"soup/{seed}", "soup", "topics", in_arm("shallow", SOUP, None), right_N, **about)
    return made


@pytest.mark.parametrize(
    ("soup", "member", "committee"), [(0.73, "yes", "yes"), (0.66, "yes", "no"), (0.55, "no", "no")]
)
def test_a_soup_is_set_beside_its_members_and_their_committee(soup: float, member: str, committee: str) -> None:
    findings = analyse(cooked(soup).evidence())
    assert (outcome(findings, MEMBER), outcome(findings, COMMITTEE)) == (member, committee)
    assert findings.tables[0].rows[0][3].text.startswith(f"{100 * soup:.0f}"[:1])


def test_a_soup_that_is_about_a_point_worse_is_undecided() -> None:
    assert outcome(analyse(cooked(0.69).evidence()), COMMITTEE) == UNDECIDED


def test_what_is_missing_is_not_measured() -> None:
    without = [analyse(MadeUp(study()).evidence()), analyse(cooked(0.7, committees=[]).evidence())]
    for findings in without:
        assert {verdict.outcome for verdict in findings.verdicts} == {"not measured"}
