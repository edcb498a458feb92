"""The sections of a report below its verdicts: what was measured, from the catalogue's marts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tlm.report import likelihood, tables
from tlm.report.drawing import Plot
from tlm.report.evidence import Evidence
from tlm.report.formatting import Table
from tlm.report.marts import rows

if TYPE_CHECKING:
    from tlm.artifacts.marts import Connection


@dataclass(frozen=True)
class Section:
    """A heading with a sentence or two, tables and plots."""

    anchor: str
    title: str
    text: str
    tables: list[Table] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)

    def without_gaps(self) -> Section:
        """With what there is to show alone."""
        tables = [table for table in self.tables if table.rows]
        return replace(self, tables=tables, plots=[plot for plot in self.plots if plot.draw])


def sections(evidence: Evidence, plots: dict[str, list[Plot]]) -> list[Section]:
    """All that may be told of a study, in the order in which it is asked for."""
    connection = evidence.connection
    tasks = [task.name for task in evidence.study.tasks]
    return [
        Section(
            "results",
            "Results",
            "Test accuracy in percent. Ws is the number of paragraphs in the pre-training set; at Ws = 0 the same "
            "architecture is trained from scratch. Baselines have no seed, do not depend on Ws and stand in every row; a "
            f"whole committee is one, as one seed is.{not_measured(connection)}",
            [tables.results_table(evidence, task) for task in tasks],
            plots["results"],
        ),
        Section(
            "gap",
            "Gap over scratch",
            "Accuracy minus that of the same system from scratch, in points.",
            [tables.gap_table(evidence, task) for task in tasks],
        ),
        Section(
            "text",
            "Text",
            "Unknown words are those that the tokenizer replaces by [UNK]: models see a hole, and overlap leaves them out. "
            "Invisible texts (zero-width characters alone) were left out; a text without a token is in no pre-training "
            "set.",
            [tables.texts_table(connection)],
        ),
        Section(
            "overlap",
            "Token overlap",
            "Types are distinct tokens of the vocabulary, special tokens left out. Type overlap is the share of the "
            "task's types that the pre-training set holds; occurrence overlap weighs each by its occurrences "
            "in the task.",
            [tables.overlap_table(connection)],
        ),
        Section(
            "missing",
            "Missing tokens",
            "At fixed Ws, some of the task's tokens were removed from the pre-training set. The paper's Table 4 "
            "reports lower accuracy with more missing tokens.",
            [tables.missing_table(evidence), tables.missing_tokens_table(connection)],
            plots["missing"],
        ),
        Section(
            "pretraining",
            "Pre-training",
            "Loss, accuracy and bits a byte are those of text that no sample holds.",
            [tables.parameters_table(evidence), tables.pretraining_table(connection)],
            plots["pretraining"],
        ),
        Section(
            "committees",
            "Committees",
            "Soft: mean of the members' softmax outputs; logit: mean of their log-probabilities; vote: majority.",
            [tables.committee_table(evidence)],
            plots["committee"],
        ),
        Section(
            "paper",
            "Beside the paper",
            "Known of arXiv 2507.14871: the accuracies of its Table 8 on FewRel, and from Table 3 that Ws = 90,000 "
            "reaches 50 to 90 % of the largest gap. Everything else is n/a. Scale, data and seeds "
            "differ here.",
            [tables.paper_table(evidence)],
        ),
        Section(
            "likelihood", "Options by likelihood", likelihood.HOW_TO_READ, likelihood.likelihood_tables(connection)
        ),
    ]


def not_measured(connection: Connection) -> str:
    """Which baselines could not be fitted, and why, in a sentence; empty if all were."""
    found = rows(
        connection,
        """select concat(baseline, ' on ', task, ' (', facts ->> 'not_measured', ')') as said from runs
        where facts ->> 'not_measured' is not null order by task, baseline""",
    )
    return f" Not measured: {'; '.join(row['said'] for row in found)}." if found else ""
