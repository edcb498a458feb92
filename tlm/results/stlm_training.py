"""How super tiny models are trained: what masked sequences add to causal ones, and where dropout helps."""

from __future__ import annotations

from tlm.report.evidence import Evidence, OptionScores
from tlm.report.findings import NOT_MEASURED, Findings
from tlm.report.formatting import Cell, Table, number, word
from tlm.report.options import (
    HOW_SCORES_VARY,
    Held,
    Weighted,
    benchmarks_of,
    hold,
    score_table,
    scores_of,
    verdict_of,
)
from tlm.report.study_systems import in_arm
from tlm.statistics.two_level import two_level
from tlm.study.config import StudyConfig
from tlm.study.likelihood import Likelihood

EQUAL = {"tokens": "hybrid", "FLOPs": "hybrid-flops"}
"""What is equal, and the arm that it is equal in."""
CAUSAL, NONE = "causal", "none"
Pair = tuple[str, int, int]
"""What is equal, the steps of the causal training, and those of the hybrid one that is held against it."""
Both = tuple[OptionScores | None, OptionScores | None]
"""Causal and hybrid."""
INTERACTION = (
    "The last of three questions is the interaction: what dropout adds where text is repeated, minus what it adds where it "
    "is not. Steps are the same."
)
EQUAL_WHAT = (
    "Models are scored as causal ones, whatever they were trained on. Batches are of one size: equal steps are equal "
    "tokens. A masked sequence has fewer predicted tokens, and so fewer products with the vocabulary: at equal FLOPs "
    "(`tlm.modeling.cost`, full rows) there are as many more steps.",
    "Each learning rate falls to 0 at its own last step.",
)


def objectives(evidence: Evidence) -> Findings:
    """Does the hybrid objective beat the causal one, after as many tokens, and after as many operations? One family."""
    found = {
        (asked.title, arch.name, pair): _scores(evidence, asked, arch.name, pair)
        for asked in benchmarks_of(evidence.study)
        for arch in evidence.study.architectures
        for pair in _pairs(evidence.study)
    }
    held = hold({place: Weighted([(1.0, hybrid), (-1.0, causal)]) for place, (causal, hybrid) in found.items()})
    verdicts = [
        verdict_of(
            f"The hybrid objective beats the causal one at equal {what} ({steps:,} causal steps), {arch} on {title}",
            held.get((title, arch, (what, steps, own))),
            more=f"hybrid after {own:,} steps minus causal",
        )
        for title, arch, (what, steps, own) in found
    ]
    tables = [_table(what, found, held) for what in EQUAL]
    return Findings(verdicts, [*tables, score_table(evidence)], notes=[HOW_SCORES_VARY, *EQUAL_WHAT])


def _pairs(study: StudyConfig) -> list[Pair]:
    budgets = {name: arm.budgets for name, arm in study.arms.items()}
    return [
        (what, *steps)
        for what, arm in EQUAL.items()
        for steps in zip(budgets.get(CAUSAL, ()), budgets.get(arm, ()), strict=False)
    ]


def _scores(evidence: Evidence, asked: Likelihood, arch: str, pair: Pair) -> Both:
    what, steps, own = pair
    return (
        scores_of(evidence, asked, in_arm(arch, CAUSAL, steps)),
        scores_of(evidence, asked, in_arm(arch, EQUAL[what], own)),
    )


def _table(
    equal: str,
    found: dict[tuple[str, str, Pair], Both],
    held: dict[tuple[str, str, Pair], Held],
) -> Table:
    body = []
    for place, scores in found.items():
        title, arch, (what, steps, own) = place
        if what == equal:
            over = held.get(place)
            difference = Cell(NOT_MEASURED) if over is None else Cell(over.text, over.links)
            body.append((word(title), word(arch), number(steps), number(own), *map(_score, scores), difference))
    columns = ("Benchmark", "Model", "Causal steps", "Hybrid steps", "Causal, %", "Hybrid, %", "Difference, points")
    return Table(f"At equal {equal}", columns, tuple(body))


def _score(scores: OptionScores | None) -> Cell:
    return Cell(NOT_MEASURED) if scores is None else Cell(two_level([scores.model_SU]).estimate.text(), scores.links)


def dropout_schedule(evidence: Evidence) -> Findings:
    """Does dropout help where text is repeated, hurt where it is not, and more in the one than in the other? One family."""
    study = evidence.study
    sizes = min(study.corpus.sizes), max(study.corpus.sizes)
    questions = {
        claim: weighted
        for asked in benchmarks_of(study)
        for arch in study.architectures
        for arm in study.arms
        if arm != NONE
        for claim, weighted in _of_dropout(evidence, asked, arch.name, arm, sizes).items()
    }
    held = hold(questions)
    verdicts = [verdict_of(claim, held.get(claim), more="positive: as claimed") for claim in questions]
    return Findings(verdicts, [score_table(evidence, sizes)], notes=[HOW_SCORES_VARY, INTERACTION])


def _of_dropout(
    evidence: Evidence, asked: Likelihood, arch: str, arm: str, sizes: tuple[int, int]
) -> dict[str, Weighted]:
    few, many = sizes
    own, none = ({ws: scores_of(evidence, asked, in_arm(arch, name, None), ws) for ws in sizes} for name in (arm, NONE))
    helps, hurts = [(1.0, own[few]), (-1.0, none[few])], [(1.0, none[many]), (-1.0, own[many])]
    where = f"({arm}), {arch} on {asked.title}"
    return {
        f"Dropout helps where text is repeated, Ws = {few:,} {where}": Weighted(helps),
        f"Dropout hurts where it is not, Ws = {many:,} {where}": Weighted(hurts),
        f"Dropout adds more where text is repeated than where it is not {where}": Weighted([*helps, *hurts]),
    }
