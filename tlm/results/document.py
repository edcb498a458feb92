"""docs/results.md: every verdict of every study that has run. Nothing in it is typed by hand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tlm.errors import UserError
from tlm.report.comparison import HOW_TO_READ, HOW_VERDICTS_FALL
from tlm.report.findings import tally
from tlm.report.formatting import Table, markdown_table
from tlm.report.matrix import LEGEND, matrix_of, matrix_table
from tlm.report.saved import SavedPlot
from tlm.results import ANALYSES
from tlm.results.answers import Answered, Answers
from tlm.results.summary import TERMS, summary
from tlm.results.words import explained

IMAGES = "img"


@dataclass(frozen=True)
class Written:
    """What a document says, for a terminal."""

    studies: list[str]
    """A line for each: its name and how its verdicts fell; then those that were left out, and why."""
    tallies: list[str]
    """A line for each scale: how many verdicts are decided, and how wide the intervals of the others are."""


def write_document(found: Answers, out: Path) -> Written:
    """Write the document and its plots (into `img` beside it).

    Args:
        found: the studies of a home (`tlm.results.answers.of_home`), or published ones (`tlm.results.published.answers`).

    Raises:
        UserError: if no study answers a question.
    """
    answered, left_out = found.answered, found.left_out
    if not answered:
        others = f" ({'; '.join(f'{name} {why}' for name, why in left_out.items())}.)" if left_out else ""
        raise UserError(f"No study that answers a question {found.verb} yet.{others}", found.remedy)
    text = _document(answered)
    for each in answered:
        for plot in _drawn(each):
            _replace(out.parent / IMAGES / _file(each, plot), each.image(plot))
    _replace(out, text.encode())
    told = [f"{each.name}: {', '.join(v.outcome for v in each.findings.verdicts)}" for each in answered]
    told += [f"{name}: left out, it {why}" for name, why in left_out.items()]
    return Written(told, [f"{scale or 'no scale'}: {_tally(answered, scale)}" for scale in _scales(answered)])


# --- the text ---


def _document(answered: list[Answered]) -> str:
    parts = [
        "# Results",
        "Written by `tlm report` from the reports of the studies below; do not edit.",
        "## In short",
        TERMS,
        "\n".join(f"- {words}" for words in explained(each.study for each in answered)),
        *(part for scale in _scales(answered) for part in summary(scale, _at(scale, answered))),
        *_missing(answered),
        "## How to read the figures",
        f"Accuracies are in percent, differences in points. {HOW_TO_READ} {HOW_VERDICTS_FALL} {LEGEND} Primary is the last "
        "epoch. Test items are looked at once, after it: a best epoch on test, the reference code's habit, is n/a. Run ids "
        "are those of MLflow; what `tlm publish` keeps has that of every number.",
        *(section for each in answered for section in _section(each)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _scales(answered: list[Answered]) -> list[str | None]:
    return list(dict.fromkeys(each.study.scale for each in answered))


def _at(scale: str | None, answered: list[Answered]) -> list[Answered]:
    return [each for each in answered if each.study.scale == scale]


def _tally(answered: list[Answered], scale: str | None) -> str:
    return tally([verdict for each in _at(scale, answered) for verdict in each.findings.verdicts])


def _missing(answered: list[Answered]) -> Iterator[str]:
    there = {each.study.analysis for each in answered}
    absent = [name for name in ANALYSES if name not in there]
    if absent:
        yield f"Not run yet: {', '.join(f'`tlm run {name}`' for name in absent)}."


def _section(each: Answered) -> Iterator[str]:
    yield f"## {each.name}"
    yield f"{ANALYSES[str(each.study.analysis)].question} {_setting(each)}"
    verdicts = matrix_table(matrix_of(each.findings.verdicts, each.study))
    yield _rows(verdicts)
    yield from (verdicts.note, *each.findings.notes)
    for plot in _drawn(each):
        yield f"![{plot.title}]({IMAGES}/{_file(each, plot)})"
    for table in each.findings.tables:
        yield f"**{table.title}**" + (f" {table.note}" if table.note else "")
        yield _rows(table)


def _setting(each: Answered) -> str:
    """One sentence on how the study was made: command, MLflow run, seeds, process hours, devices, commits."""
    making, run = each.findings.making, each.run_id
    scratch = f", {len(each.study.scratch_seeds)} from scratch" if each.study.scratch_seeds else ""
    return (
        f"`{each.command}`, MLflow run {f'`{run}`' if run else 'n/a'}. "
        f"{len(each.study.pretrain_seeds)} pre-training and {len(each.study.finetune_seeds)} fine-tuning seeds, "
        f"{each.study.seeds}{scratch}; {making.artifacts} artifacts, "
        f"{making.seconds / 3600:.1f} process hours on {', '.join(making.devices)}; "
        f"code {', '.join(making.commits)}."
    )


def _rows(table: Table) -> str:
    """The table, without links: the document is read where no MLflow server runs."""
    plain = tuple(tuple(replace(cell, links=()) for cell in row) for row in table.rows)
    return markdown_table(replace(table, rows=plain), "") if plain else "Nothing was measured."


def _drawn(each: Answered) -> list[SavedPlot]:
    return [plot for plot in each.findings.plots if plot.file]


def _file(each: Answered, plot: SavedPlot) -> str:
    return f"{each.study.scale or each.study.name}-{plot.name}.png"


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: aside first, then moved into its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_bytes(content)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
