"""What a reader of a report sees first: how verdicts fell, the one figure that shows it, and all of them in a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tlm.report.comparison import difference_text
from tlm.report.drawing import Plot
from tlm.report.evidence import Evidence
from tlm.report.findings import Findings
from tlm.report.formatting import Table, corpus_label
from tlm.report.marts import estimate
from tlm.report.matrix import Answer, Matrix, matrix_of, matrix_table, tally_of


@dataclass(frozen=True)
class Glance:
    """The head of a report."""

    tally: dict[Answer, int]
    """Empty where nothing is asked, as the matrix is."""
    matrix: Matrix
    table: Table
    """The matrix as text."""
    figure: Plot | None
    """The first of the findings, or of the results where nothing is asked."""
    gaps: list[str]
    """Where nothing is asked: the gaps in words."""


def at_a_glance(evidence: Evidence, findings: Findings, results: Sequence[Plot]) -> Glance:
    """Choose what stands first.

    Args:
        results: the plots of what was measured, where the findings have none.
    """
    matrix = matrix_of(findings.verdicts, evidence.study)
    drawn = [plot for plot in (*findings.plots, *results) if plot.draw]
    tally = tally_of(findings.verdicts) if findings.verdicts else {}
    gaps = [] if findings.verdicts else _gaps_in_words(evidence)
    return Glance(tally, matrix, matrix_table(matrix), drawn[0] if drawn else None, gaps)


def _gaps_in_words(evidence: Evidence) -> list[str]:
    """One sentence for each task and architecture: the largest Ws against scratch."""
    study, found = evidence.study, []
    ws = max(study.corpus.sizes)
    for task in study.tasks:
        for arch in study.architectures:
            row = evidence.gaps.find(task=task.name, kind="finetune", system=arch.name, ws=ws, treatment=None)
            gap = estimate(row, "gap")
            if row is not None and gap is not None:
                found.append(
                    f"{task.name}, {arch.name}: {100 * row['scratch_accuracy']:.1f} % from scratch, "
                    f"{100 * row['accuracy']:.1f} % pre-trained on {corpus_label(ws, None)} paragraphs, "
                    f"a gap in points of {difference_text(gap)}."
                )
    return found
