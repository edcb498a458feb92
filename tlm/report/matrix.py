"""Verdicts at a glance: a row for each claim, a column for each task that it is asked of, a mark for each answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tlm.report.findings import NOT_KNOWN, NOT_MEASURED, UNDECIDED, Outcome, Verdict
from tlm.report.formatting import Cell, Table, word
from tlm.report.options import benchmarks_of

if TYPE_CHECKING:
    from tlm.study.config import StudyConfig

Answer = Literal["established", "refuted", "open"]
ANSWER_OF: Mapping[Outcome, Answer] = {
    "reproduced": "established",
    "yes": "established",
    "not reproduced": "refuted",
    "no": "refuted",
    UNDECIDED: "open",
    NOT_MEASURED: "open",
}
MARKS: Mapping[Outcome, str] = {
    "reproduced": "✔",
    "yes": "✔",
    "not reproduced": "✘",
    "no": "✘",
    UNDECIDED: "○",
    NOT_MEASURED: "–",
}
LEGEND = (
    "✔ a claim of the paper is reproduced, or the answer is yes; ✘ it is not, or the answer is no; ○ what was measured "
    "allows both at this scale; – not measured."
)
WHOLE = "All"
"""The column of what is asked of no task alone."""


@dataclass(frozen=True)
class Matrix:
    """The verdicts of a study. A claim that is asked of several tasks stands there once."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[Verdict, ...], ...]], ...]
    """(claim, for each column the verdicts there: none, one, or several of the same claim)."""

    @property
    def papers(self) -> tuple[str, ...]:
        """What is known of the paper's figures for each row; empty if nothing is."""
        known = [
            dict.fromkeys(v.paper for cell in cells for v in cell if v.paper != NOT_KNOWN) for _, cells in self.rows
        ]
        return tuple("; ".join(each) or NOT_KNOWN for each in known) if any(known) else ()


def matrix_of(verdicts: Sequence[Verdict], study: StudyConfig) -> Matrix:
    """The verdicts by claim and by the task or benchmark of the study that the claim says they are `on`."""
    places = [*(task.name for task in study.tasks), *(each.title for each in benchmarks_of(study))]
    found: dict[str, dict[str, list[Verdict]]] = {}
    for verdict in verdicts:
        claim, place = _split(verdict.claim, places)
        found.setdefault(claim, {}).setdefault(place, []).append(verdict)
    used = {place for cells in found.values() for place in cells}
    columns = tuple(place for place in dict.fromkeys([*places, WHOLE]) if place in used)
    rows = tuple((claim, tuple(tuple(cells.get(column, ())) for column in columns)) for claim, cells in found.items())
    return Matrix(columns, rows)


def answer_in(cell: Sequence[Verdict]) -> Answer:
    """What a cell of the matrix says: open where its verdicts do not agree."""
    answers = {ANSWER_OF[verdict.outcome] for verdict in cell}
    return answers.pop() if len(answers) == 1 else "open"


def tally_of(verdicts: Sequence[Verdict]) -> dict[Answer, int]:
    """How many are established, refuted and open."""
    answers = [ANSWER_OF[verdict.outcome] for verdict in verdicts]
    return {answer: answers.count(answer) for answer in dict.fromkeys(ANSWER_OF.values())}


def matrix_table(matrix: Matrix) -> Table:
    """The matrix as a table of text, the paper's figures beside it, or below where they are one."""
    papers = matrix.papers
    in_a_column = len({*papers}) > 1
    body = [
        (word(claim), *map(_cell, cells), *([word(papers[place])] if in_a_column else []))
        for place, (claim, cells) in enumerate(matrix.rows)
    ]
    columns = ("Claim or question", *matrix.columns, *(["Paper"] if in_a_column else []))
    note = f"The paper: {papers[0]}." if papers and not in_a_column else ""
    return Table("Verdicts", columns, tuple(body), note)


def by_claim(matrix: Matrix, answer: Answer) -> Iterator[tuple[str, list[tuple[str, Verdict]]]]:
    """Each claim that got this answer, with the columns where it did."""
    for claim, cells in matrix.rows:
        fell = [
            (column, verdict)
            for column, cell in zip(matrix.columns, cells, strict=True)
            for verdict in cell
            if ANSWER_OF[verdict.outcome] == answer
        ]
        if fell:
            yield claim, fell


def _cell(verdicts: tuple[Verdict, ...]) -> Cell:
    links = tuple(link for verdict in verdicts for link in verdict.links)
    return Cell("; ".join(f"{MARKS[v.outcome]} {v.figure}" for v in verdicts), links, number=False)


def _split(claim: str, places: Sequence[str]) -> tuple[str, str]:
    """The claim without the one place that it is on, and the place; WHOLE if it names none, or several."""
    one = "|".join(re.escape(place) for place in sorted(places, key=len, reverse=True))
    found = [*re.finditer(rf"(?:^On| on) ({one})(?![\w-]|\.\w)", claim)] if places else []
    if len(found) != 1:
        return claim, WHOLE
    before, after = claim[: found[0].start()], claim[found[0].end() :]
    if not before:
        after = after.removeprefix(",").lstrip()
        after = after[:1].upper() + after[1:]
    return before + after, found[0][1]
