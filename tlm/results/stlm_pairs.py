"""What weights that do two things at once cost, on BLiMP: a feed-forward network for all layers, tied embeddings.

Beside the model that has twice or more of them stands one that stores as much and shares nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from tlm.report.evidence import Evidence
from tlm.report.findings import NOT_KNOWN, NOT_MEASURED, UNDECIDED, Findings, Verdict
from tlm.report.options import (
    HOW_SCORES_VARY,
    LITTLE_LOSS,
    Held,
    Weighted,
    benchmarks_of,
    hold,
    score_table,
    scores_of,
    verdict_of,
)
from tlm.report.tables import parameters_table

LESS = -0.01
"""A loss of less than one point."""
HALF = 0.5
Claim = tuple[str, str, str]
"""What is said, the model it is about, and the one it is held against."""


def ffn_sharing(evidence: Evidence) -> Findings:
    """Does it cost less than a point, at equal compute and at equal stored size? Does LoRA win half of it back?"""
    found = _losses(
        evidence,
        [
            ("Sharing the feed-forward network costs less than 1 point at equal compute", "shared", "plain"),
            ("Sharing the feed-forward network costs less than 1 point at equal stored size", "shared", "narrow"),
        ],
    )
    verdicts = [*found.verdicts, *_recovered(evidence)]
    return Findings(verdicts, found.tables, notes=found.notes)


def weight_tying(evidence: Evidence) -> Findings:
    """Does it cost less than a point, after as many steps and at equal stored size?"""
    return _losses(
        evidence,
        [
            ("Tied embeddings cost less than 1 point after as many steps", "plain", "untied"),
            ("Tied embeddings cost less than 1 point at equal stored size", "plain", "untied-narrow"),
        ],
    )


def _losses(evidence: Evidence, claims: Iterable[Claim]) -> Findings:
    """Each claim on each benchmark, one family."""
    asked = {(each.title, *claim): each for each in benchmarks_of(evidence.study) for claim in claims}
    held = hold({
        place: Weighted(
            [(1.0, scores_of(evidence, each, place[2])), (-1.0, scores_of(evidence, each, place[3]))], margin=LESS
        )
        for place, each in asked.items()
    })  # fmt: skip
    verdicts = [
        verdict_of(f"{place[1]}, {place[0]}", held.get(place), more=f"{place[2]} minus {place[3]}") for place in asked
    ]
    notes = [
        HOW_SCORES_VARY,
        "The margin is −1 point: yes if the whole interval is above it, no if it is below.",
        LITTLE_LOSS,
    ]
    return Findings(verdicts, [score_table(evidence), parameters_table(evidence)], notes=notes)


def _recovered(evidence: Evidence) -> list[Verdict]:
    """(LoRA − shared) against half of (plain − shared), asked only where that is a loss: each a family of its own."""
    found = []
    for each in benchmarks_of(evidence.study):
        plain, shared, lora = (scores_of(evidence, each, name) for name in ("plain", "shared", "shared-lora"))
        claim = f"A low-rank part of each layer's own wins back half of what sharing costs, {each.title}"
        terms = Weighted([(1.0, lora), (-(1 - HALF), shared), (-HALF, plain)])
        over, loss = hold({"": terms}).get(""), hold({"": Weighted([(1.0, plain), (-1.0, shared)])}).get("")
        if over is None or loss is None:
            found.append(Verdict(claim, NOT_MEASURED, NOT_KNOWN))
            continue
        figure = f"LoRA minus the middle of plain and shared: {over.text}; plain minus shared: {loss.text}"
        outcome = over.outcome if _is_a_loss(loss) else UNDECIDED
        found.append(Verdict(claim, outcome, figure, links=over.links, estimate=over.estimate))
    return found


def _is_a_loss(loss: Held) -> bool:
    return loss.outcome == "yes"
