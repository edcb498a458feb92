"""What bytes are worth to super tiny models: in the place of a vocabulary, and predicted one by one or all at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tlm.modeling.cost import parameter_counts
from tlm.modeling.families.base import ParameterCounts
from tlm.modeling.families.bytes import fewer
from tlm.report.comparison import ALPHA
from tlm.report.evidence import Evidence, OptionScores, Scores
from tlm.report.findings import NOT_KNOWN, NOT_MEASURED, UNDECIDED, Findings, Outcome, Verdict
from tlm.report.formatting import Cell, Table, number, percent, word
from tlm.report.options import (
    HOW_SCORES_VARY,
    LITTLE_LOSS,
    Weighted,
    benchmarks_of,
    hold,
    score_table,
    scores_of,
    verdict_of,
)
from tlm.report.study_systems import in_arm
from tlm.report.tables import parameters_table
from tlm.statistics import Estimate
from tlm.statistics.two_level import two_level

FEWER = 0.9
"""Of embeddings and head."""
BERTS_VOCABULARY = 30_522
EQUAL = -0.02
"""Equal BLiMP: less than two points below."""
SUBWORD = "subword"
ARMS = {"bytes": "bytes read", "bytes-flops": "FLOPs"}
"""The arms of bytes, and what each has as much of as the other model."""
HEADS = ("autoregressive", "parallel")


def byte_pooling(evidence: Evidence) -> Findings:
    """Has it 90 % fewer embedding and head parameters? Is it within two points, after as many bytes, as many FLOPs?"""
    study = evidence.study
    asked = [(each, arch.name, arm) for each in benchmarks_of(study) for arch in study.architectures for arm in ARMS]
    found = {
        (each.title, arch, arm): tuple(
            scores_of(evidence, each, _system(evidence, arch, name)) for name in (arm, SUBWORD)
        )
        for each, arch, arm in asked
    }
    held = hold({place: Weighted([(1.0, own), (-1.0, other)], EQUAL) for place, (own, other) in found.items()})
    counts = _counts(evidence)
    verdicts = [_count(arch, of_arm) for arch, of_arm in counts.items() if {"bytes", SUBWORD} <= set(of_arm)]
    for title, arch, arm in found:
        claim = f"{arch} of bytes is less than 2 points below that with a vocabulary after as many {ARMS[arm]}, {title}"
        verdicts.append(verdict_of(claim, held.get((title, arch, arm)), more="bytes minus subword"))
    return Findings(
        verdicts,
        [_counts_table(counts), score_table(evidence)],
        notes=[
            HOW_SCORES_VARY,
            LITTLE_LOSS,
            "The margin is −2 points.",
            LITTLE_LOSS,
            "The numbers of parameters are exact. What bytes save is a share of embeddings and head: the smaller the "
            "vocabulary and the width, the less it can be.",
        ],
    )


def byte_head(evidence: Evidence) -> Findings:
    """Has the autoregressive head fewer bits a byte on held-out text than the parallel one?"""
    claim = "The autoregressive head has fewer bits a byte than the parallel one"
    benchmark = next(iter(benchmarks_of(evidence.study)), None)
    found = {name: scores_of(evidence, benchmark, name) if benchmark else None for name in HEADS}
    bits = {name: _bits(scores) for name, scores in found.items()}
    one_by_one, at_once = bits["autoregressive"], bits["parallel"]
    paired = len({scores.seeds for scores in found.values() if scores is not None}) == 1
    verdict = Verdict(claim, NOT_MEASURED, NOT_KNOWN, unit="bits a byte")
    if one_by_one is not None and at_once is not None and paired:
        # Held-out text is one unit: what varies is the seed.
        over = two_level([np.repeat(each[:, None], 2, axis=1) for each in (at_once, one_by_one)], [1, -1])
        estimate = replace(over.estimate, method="Student's t over seeds")
        p_value = over.p_value()
        decided = p_value is not None and p_value <= ALPHA and estimate.resolved
        outcome: Outcome = UNDECIDED if not decided else "yes" if estimate.value > 0 else "no"
        text = f"parallel minus autoregressive: {estimate.text(scale=1, digits=3, signed=True)} bits a byte"
        verdict = Verdict(claim, outcome, text, estimate=estimate, unit="bits a byte")
    body = []
    for name, each in bits.items():
        measured = [Cell(NOT_MEASURED)] * 2 if each is None else [number(float(each.mean()), 3), number(len(each))]
        body.append((word(name), *measured))
    table = Table("Held-out loss", ("Head", "Bits a byte", "Seeds"), tuple(body), "Means over seeds.")
    return Findings(
        [verdict],
        [table, score_table(evidence), parameters_table(evidence)],
        notes=[
            "Both losses are exact: −log p of every byte and every end of a patch, over the bytes of the text. Steps are "
            "equal, operations are not.",
        ],
    )


def _system(evidence: Evidence, arch: str, arm: str) -> str:
    """What the marts call an arm's model."""
    budgets = evidence.study.arms[arm].budgets
    return in_arm(arch, arm, budgets[-1] if budgets else None)


def _bits(scores: OptionScores | None) -> Scores | None:
    return None if scores is None else scores.bits_S


# --- parameters ---


def _counts(evidence: Evidence) -> dict[str, dict[str, ParameterCounts]]:
    """Of each architecture, by arm, with the vocabulary that the study asks for."""
    vocab_size = getattr(evidence.study.tokenizer, "vocab_size", BERTS_VOCABULARY)
    counts: dict[str, dict[str, ParameterCounts]] = {arch.name: {} for arch in evidence.study.architectures}
    for arm, _, own in evidence.study.in_arms():
        for arch in own.architectures:
            sizes = {"vocab_size": vocab_size, "max_position_embeddings": own.max_length}
            counts[arch.name][arm] = parameter_counts(arch, **sizes)
    return counts


def _count(arch: str, counts: dict[str, ParameterCounts]) -> Verdict:
    """Exact, for one vocabulary and one width."""
    own, other = counts["bytes"], counts[SUBWORD]
    figure = (
        f"{own.embeddings_and_head:,} and {other.embeddings_and_head:,}: "
        f"{fewer(own.embeddings_and_head, other.embeddings_and_head)}; of the whole model {fewer(own.stored, other.stored)}"
    )
    saved = 1 - own.embeddings_and_head / other.embeddings_and_head
    claim = f"{arch} of bytes has at least 90 % fewer parameters in embeddings and head than with its vocabulary"
    estimate = Estimate(saved, saved, saved, 0.0, 0, "exact")
    return Verdict(claim, "yes" if saved >= FEWER else "no", figure, "90 to 95 %", estimate=estimate)


def _counts_table(counts: dict[str, dict[str, ParameterCounts]]) -> Table:
    body = [
        (
            *(word(arch), word(arm), number(each.stored), number(each.embeddings_and_head)),
            percent(each.embeddings_and_head / each.stored),
        )
        for arch, of_arm in counts.items()
        for arm, each in of_arm.items()
    ]
    columns = ("Model", "Arm", "Stored", "Embeddings and head", "Of all, %")
    return Table("Parameters of the language models", columns, tuple(body))
