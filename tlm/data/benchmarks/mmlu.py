"""MMLU (Hendrycks et al. 2021, arXiv 2009.03300): a CSV file without a header for each subject."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from tlm.data.benchmarks.choices import question
from tlm.data.benchmarks.item import Item, Located
from tlm.data.sources.values import not_utf8
from tlm.errors import UserError
from tlm.study.likelihood import Mmlu

CELLS = 6
"""A question, four answers, and the letter of the right one."""
LETTERS = "ABCD"
_FORM = "A line is a question, four answers and A, B, C or D; the files have no header, and answers are not 0 to 3."


def read(benchmark: Mmlu, files: Sequence[tuple[Path, str]]) -> list[Located]:
    """`Question: …`, `Answer:`, and the text of each answer, grouped by subject; item_id is subject:row, from 0."""
    return [located for place, name in files for located in _subject(place, name)]


def _subject(place: Path, name: str) -> Iterator[Located]:
    subject = place.stem
    for part in ("_test", "_dev", "_val"):
        subject = subject.removesuffix(part)
    for row, (line, cells) in enumerate(_rows(place, name)):
        where = f"{name}, line {line}"
        if len(cells) != CELLS:
            raise UserError(f"{where}: {len(cells)} cells, not {CELLS}.", _FORM)
        text, *answers, right = cells
        if right.strip() not in (*LETTERS,):
            raise UserError(f"{where}: the answer is {right!r:.40}, not A, B, C or D.", _FORM)
        if not text.strip():
            raise UserError(f"{where}: the question is empty.", "Correct it.")
        options = tuple(f" {answer.strip()}" for answer in answers)
        prefixes = (question(text),) * len(options)
        yield where, Item(f"{subject}:{row}", prefixes, options, LETTERS.index(right.strip()), subject)


def _rows(place: Path, name: str) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not blank, and the line where it begins."""
    line = 1
    try:
        with open(place, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for cells in reader:
                if cells:
                    yield line, cells
                line = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise not_utf8(place, name) from error
    except csv.Error as error:
        raise UserError(f"{name}, line {line}: not valid CSV ({error}).", "Check the quotes.") from error
    except OSError as error:
        raise UserError(f"Cannot read {name}: {error.strerror or error}.", "Check the file.") from error
