"""Language models compared by their scores on a benchmark of options: how a difference is judged, and how scores are shown.

Models of a study have the same pre-training seeds, so that differences are paired by seed and by unit of the score.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tlm.report.comparison import ALPHA, adjusted
from tlm.report.evidence import NULLS, Evidence, OptionScores
from tlm.report.findings import NOT_KNOWN, NOT_MEASURED, UNDECIDED, Outcome, Verdict
from tlm.report.formatting import Cell, Link, Table, number, word
from tlm.report.likelihood import NULLS as NULL_TITLES
from tlm.report.study_systems import models
from tlm.statistics import Estimate
from tlm.statistics.two_level import two_level
from tlm.study.config import StudyConfig
from tlm.study.likelihood import Likelihood

HOW_SCORES_VARY = (
    "Scores are of models after their last step. Intervals are a bootstrap of two levels (`tlm.statistics.two_level`): "
    "units of the score (of BLiMP its paradigms) are resampled, seeds are drawn from Student's t; differences are paired "
    "by both. A verdict asks for an interval that excludes its margin, and a p-value, corrected over the questions that "
    "are asked together (Holm), of at most 0.05."
)
"""A note for studies of such scores."""
LITTLE_LOSS = (
    "A claim that something costs less than a margin is answered only where both models that are compared are above chance "
    "and every null, with the whole interval: two models that know nothing are equal too. Elsewhere it is not measured."
)
"""Likewise, where one of their claims has a margin below 0."""

Question = TypeVar("Question", bound=Hashable)


@dataclass(frozen=True)
class Weighted:
    """Σ weight × score of some models, and the margin that it is held against, a share.

    A margin below 0 is that of a loss: to be above it is to lose less (`LITTLE_LOSS`).
    """

    terms: Sequence[tuple[float, OptionScores | None]]
    margin: float = 0.0


@dataclass(frozen=True)
class Held:
    """What came of it."""

    estimate: Estimate
    p_value: float | None
    """Of "it is just the margin", adjusted for the family (Holm); None with one seed."""
    margin: float
    links: tuple[Link, ...]
    learnt: bool
    """Whether nothing is known to be no better than chance or a null (with one seed nothing is)."""

    @property
    def outcome(self) -> Outcome:
        """Whether it is above the margin."""
        if self.margin < 0 and not self.learnt:
            return NOT_MEASURED
        within = self.estimate.low <= self.margin <= self.estimate.high
        if within or self.p_value is None or self.p_value > ALPHA:
            return UNDECIDED
        return "yes" if self.estimate.value > self.margin else "no"

    @property
    def text(self) -> str:
        return self.estimate.text(signed=True)


def hold(family: Mapping[Question, Weighted]) -> dict[Question, Held]:
    """Each question of a family of which every model was measured, with p-values corrected together."""
    there = {
        question: [(weight, scores) for weight, scores in asked.terms if scores is not None]
        for question, asked in family.items()
        if all(scores is not None for _, scores in asked.terms)
    }
    found = {
        question: two_level([scores.model_SU for _, scores in terms], [weight for weight, _ in terms])
        for question, terms in there.items()
    }
    learnt = {question: all(above_all(scores) is not False for _, scores in terms) for question, terms in there.items()}
    p_values = adjusted([each.p_value(family[question].margin) for question, each in found.items()])
    return {
        question: Held(each.estimate, p, family[question].margin, _links(there[question]), learnt[question])
        for (question, each), p in zip(found.items(), p_values, strict=True)
    }


def verdict_of(claim: str, held: Held | None, *, known: str = NOT_KNOWN, more: str = "") -> Verdict:
    """The claim that something is above its margin, as a line for the reader."""
    if held is None:
        return Verdict(claim, NOT_MEASURED, NOT_KNOWN, known)
    why_not = "not both are above every null" if held.outcome == NOT_MEASURED else ""
    figure = "; ".join(part for part in (held.text, more, why_not) if part)
    return Verdict(claim, held.outcome, figure, known, held.links, held.estimate)


def benchmarks_of(study: StudyConfig) -> list[Likelihood]:
    """What a study's models are scored on."""
    return [each for each in study.evaluations if isinstance(each, Likelihood)]


def scores_of(evidence: Evidence, asked: Likelihood, system: str, ws: int | None = None) -> OptionScores | None:
    """Of a system on a benchmark, by default at the largest Ws."""
    largest = max(evidence.study.corpus.sizes)
    return evidence.options(asked.title, asked.normalization, system, largest if ws is None else ws)


def score_table(evidence: Evidence, sizes: Sequence[int] | None = None) -> Table:
    """Every model's score with its interval, and the best of its nulls by name beside all of them."""
    body = []
    for asked in benchmarks_of(evidence.study):
        for ws in sizes or (max(evidence.study.corpus.sizes),):
            for system in models(evidence.study):
                scores = scores_of(evidence, asked, system, ws)
                start = (word(asked.title), word(f"{ws:,}"), word(system))
                if scores is None:
                    body.append((*start, Cell(NOT_MEASURED), *[Cell(NOT_MEASURED)] * (2 + len(NULLS))))
                    continue
                nulls = [100 * float(scores.nulls[name].mean()) for name in NULLS]
                own = two_level([scores.model_SU]).estimate
                above = above_all(scores)
                body.append(
                    (
                        *(*start, Cell(own.text(), scores.links), number(100 * scores.chance, 1)),
                        *(number(null, 1) for null in nulls),
                        word("n/a" if above is None else "yes" if above else "no"),
                    )
                )
    columns = (
        *("Benchmark", "Ws", "Model", "Score, %", "Chance"),
        *(NULL_TITLES[name] for name in NULLS),
        "Above all of them",
    )
    return Table(
        "Scores by likelihood",
        columns,
        tuple(body),
        "Above all of them: the whole 95 % interval of the paired difference, for chance and for each of the four. n/a "
        "with one seed.",
    )


def above_all(scores: OptionScores) -> bool | None:
    """Whether a score is above chance and each null, with its whole interval; None with one seed."""
    if len(scores.seeds) == 1:
        return None
    lows = [two_level([scores.model_SU, scores.nulls[name]], [1, -1]).estimate.low for name in NULLS]
    return min(lows) > 0 and two_level([scores.model_SU]).estimate.low > scores.chance


def _links(terms: Sequence[tuple[float, OptionScores]]) -> tuple[Link, ...]:
    return tuple(link for _, scores in terms for link in scores.links)
