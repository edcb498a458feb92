"""What an analysis hands to the reader: verdicts, tables, plots, notes, every figure from a study's records."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tlm.report.drawing import Plot
from tlm.report.formatting import Link, Table

UNDECIDED: Literal["undecided at this scale"] = "undecided at this scale"
NOT_MEASURED: Literal["not measured"] = "not measured"
Outcome = Literal["reproduced", "not reproduced", "yes", "no", "undecided at this scale", "not measured"]
"""The first two answer a claim of the paper, the next two an open question. Undecided is what was measured and allows both
answers; not measured is what lacks something it needs."""
NOT_KNOWN = "n/a"
ONE_SAMPLE = "Each pre-training set was drawn once: seeds vary the training, not the paragraphs."
"""A note for studies of treatments."""


@dataclass(frozen=True)
class Verdict:
    """One claim of the paper, or one open question, and what came out."""

    claim: str
    outcome: Outcome
    figure: str
    """What was measured, with its interval and the number of seeds; accuracies in percent, differences in points."""
    paper: str = NOT_KNOWN
    """The paper's figure where it is known."""
    links: tuple[Link, ...] = ()
    """The MLflow runs behind the figure."""


@dataclass(frozen=True)
class Findings:
    """What a study found. Tables and plots have names that are unique within the study."""

    verdicts: list[Verdict] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Sentences that a reader needs to weigh the rest."""
