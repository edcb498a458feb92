"""What does a super tiny language model know without fine-tuning? Five benchmarks beside chance and the nulls.

The claim is that of arXiv 2405.14159: models of this size are near chance on MMLU and WinoGrande, and above it on BLiMP,
ARC-easy and HellaSwag.
"""

from __future__ import annotations

from dataclasses import replace

from tlm.report.evidence import Evidence, OptionScores
from tlm.report.findings import NOT_KNOWN, NOT_MEASURED, UNDECIDED, Findings, Outcome, Verdict
from tlm.report.options import (
    HOW_SCORES_VARY,
    Weighted,
    benchmarks_of,
    hold,
    score_table,
    scores_of,
    verdict_of,
)
from tlm.report.study_systems import models
from tlm.statistics.two_level import two_level

PUBLISHED = {"blimp": 78, "hellaswag": 30, "arc_easy": 39, "winogrande": 50, "mmlu": 24}
"""Percent, of the 50M model, at the scale `paper`: shown beside what was measured."""
AT_CHANCE = ("winogrande", "mmlu")
NEAR = 0.02
"""Of chance: the published figures are 0 and 1 point from it."""


def analyse(evidence: Evidence) -> Findings:
    """A verdict for each model and benchmark; those about chance are one family."""
    study = evidence.study
    places = [(asked, system) for asked in benchmarks_of(study) for system in models(study)]
    found = {(asked.title, system): scores_of(evidence, asked, system) for asked, system in places}
    above = {place: scores for place, scores in found.items() if place[0] not in AT_CHANCE}
    held = hold({
        place: Weighted([(1.0, scores)], margin=scores.chance if scores else 0.0) for place, scores in above.items()
    })  # fmt: skip
    verdicts = []
    for (title, system), scores in found.items():
        known = f"{PUBLISHED[title]} %" if study.scale == "paper" and title in PUBLISHED else NOT_KNOWN
        if (title, system) in above:
            claim = f"{system} is above chance on {title}"
            verdict = verdict_of(claim, held.get((title, system)), known=known, more=_chance(scores))
        else:
            verdict = _near(f"{system} is within {100 * NEAR:g} points of chance on {title}", scores, known)
        verdicts.append(_over_chance(verdict, scores))
    return Findings(
        verdicts,
        [score_table(evidence)],
        notes=[
            HOW_SCORES_VARY,
            f"Near chance: the whole interval is within {100 * NEAR:g} points of it; no: the whole interval is farther.",
            "A score above chance may still be below a null: the table says which are not.",
        ],
    )


def _near(claim: str, scores: OptionScores | None, known: str) -> Verdict:
    if scores is None:
        return Verdict(claim, NOT_MEASURED, NOT_KNOWN, known)
    own = two_level([scores.model_SU]).estimate
    low, high = own.low - scores.chance, own.high - scores.chance
    outcome: Outcome = UNDECIDED
    if own.seeds > 1 and low > -NEAR and high < NEAR:
        outcome = "yes"
    elif own.seeds > 1 and (low > NEAR or high < -NEAR):
        outcome = "no"
    return Verdict(claim, outcome, f"{own.text()}; {_chance(scores)}", known, scores.links, own)


def _over_chance(verdict: Verdict, scores: OptionScores | None) -> Verdict:
    """With what its outcome rests on: the score minus chance, for a score alone is far from 0 whatever is known."""
    own = verdict.estimate
    if own is None or scores is None:
        return verdict
    value, low, high = (end - scores.chance for end in (own.value, own.low, own.high))
    return replace(verdict, estimate=replace(own, value=value, low=low, high=high))


def _chance(scores: OptionScores | None) -> str:
    return f"chance is {100 * scores.chance:.1f}" if scores else ""
