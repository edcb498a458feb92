"""BLiMP (Warstadt et al. 2020, arXiv 1912.00582): a file of pairs for each paradigm.

The files are those of https://github.com/alexwarstadt/blimp.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tlm.data.benchmarks.item import Item, Located, lines_of
from tlm.study.likelihood import Blimp

PHENOMENA = {"s-selection": "argument_structure"}
"""Terms of the files that the paper counts to another of its 12 phenomena."""


def read(benchmark: Blimp, files: Sequence[tuple[Path, str]]) -> list[Located]:
    """One item for each pair, the acceptable sentence first; item_id is paradigm:pairID."""
    return [
        (
            row.where,
            Item(
                item_id=f"{row.text('UID')}:{row.name('pairID')}",
                prefixes=("", ""),
                options=(row.text("sentence_good"), row.text("sentence_bad")),
                gold=0,
                group=row.text("UID"),
                phenomenon=phenomenon(row.text("linguistics_term")),
            ),
        )
        for row in lines_of(files)
    ]


def phenomenon(term: str) -> str:
    """Which of the paper's 12 phenomena the term of a file is."""
    return PHENOMENA.get(term, term)
