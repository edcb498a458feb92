"""What does it cost to let each token leave after as many layers as it needs, half of them on average?

The threshold is found on held-out text. What the benchmark's own tokens use then stands beside the score, in layers and in
operations: where the head is large beside a layer, asking it at every exit costs more than the layers save.
"""

from __future__ import annotations

from dataclasses import replace

from tlm.report.evidence import Evidence, OptionScores
from tlm.report.findings import NOT_MEASURED, UNDECIDED, Findings, Verdict
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
from tlm.statistics.two_level import two_level
from tlm.study.early_exit import EarlyExit

LESS = -0.01
"""A loss of less than one point."""
HALF = 0.5
"""Of the layers."""


def analyse(evidence: Evidence) -> Findings:
    """Half the layers against all; training with exits against training without; leaving early against half a model."""
    asked = next((each for each in evidence.study.evaluations if isinstance(each, EarlyExit)), None)
    if asked is None:
        return Findings([Verdict("Half the layers cost less than 1 point", NOT_MEASURED, "the study asks for no exit")])
    early = in_arm("exits", asked.title, None)
    titles = {each.title: each for each in benchmarks_of(evidence.study)}
    found = {
        (title, system): scores_of(evidence, each, system)
        for title, each in titles.items()
        for system in ("plain", "exits", early, "half")
    }

    def difference(title: str, one: str, other: str, margin: float = 0.0) -> Weighted:
        return Weighted([(1.0, found[title, one]), (-1.0, found[title, other])], margin)

    held = hold(
        {(title, "half"): difference(title, early, "exits", LESS) for title in titles}
        | {(title, "training"): difference(title, "exits", "plain", LESS) for title in titles}
        | {(title, "shallow"): difference(title, early, "half") for title in titles}
    )
    verdicts = []
    for title in titles:
        claim = f"Tokens that leave after half the layers cost less than 1 point on {title}"
        more = f"with exits minus all layers of the same model; {_used(found[title, early])}"
        verdicts.append(_of_half(verdict_of(claim, held.get((title, "half")), more=more), found[title, early]))
        claim = f"A loss at every exit costs the whole model less than 1 point on {title}"
        verdicts.append(verdict_of(claim, held.get((title, "training")), more="all layers, exits minus plain"))
        claim = f"Leaving after half the layers beats a model of half the layers on {title}"
        beats = verdict_of(claim, held.get((title, "shallow")), more="with exits minus half")
        verdicts.append(_of_half(beats, found[title, early]))
    notes = [
        HOW_SCORES_VARY,
        LITTLE_LOSS,
        "The threshold of each model is the highest with which held-out text uses half of the layers at most. If the "
        "benchmark's tokens use more than half, neither a cost below the margin nor a better score than that of half a "
        "model decides the claim.",
        "A token that has left is still read by those behind it: the layers above make its keys and values.",
    ]
    tables = [_table(evidence, early), score_table(evidence), parameters_table(evidence)]
    return Findings(verdicts, tables, notes=notes)


def _of_half(verdict: Verdict, scores: OptionScores | None) -> Verdict:
    """It can only be a "yes" of half the layers if so many, or fewer, were used."""
    more_than_half = scores is not None and (scores.layers is None or scores.layers > HALF)
    return replace(verdict, outcome=UNDECIDED) if verdict.outcome == "yes" and more_than_half else verdict


def _used(scores: OptionScores | None) -> str:
    if scores is None or scores.layers is None or scores.flops_share is None:
        return "layers used are not known"
    return f"{100 * scores.layers:.1f} % of the layers, {100 * scores.flops_share:.1f} % of the operations"


def _table(evidence: Evidence, early: str) -> Table:
    body = []
    for asked in benchmarks_of(evidence.study):
        for system in ("plain", "exits", early, "half"):
            scores = scores_of(evidence, asked, system)
            if scores is None:
                body.append((word(asked.title), word(system), *[Cell(NOT_MEASURED)] * 3))
                continue
            all_of_them = system != early
            body.append(
                (
                    word(asked.title),
                    word(system),
                    Cell(two_level([scores.model_SU]).estimate.text(), scores.links),
                    number(100, 1) if all_of_them else percent(scores.layers),
                    number(100, 1) if all_of_them else percent(scores.flops_share),
                )
            )
    return Table(
        "Layers and operations that tokens of the benchmark used",
        ("Benchmark", "Model", "Score, %", "Of its layers, %", "Of its operations, %"),
        tuple(body),
        "Means over seeds. Operations are those of predicting from every token, the head's at each exit that a token came "
        "to counted; of a model's own, all layers and the head once.",
    )
