"""What the stages that make a pre-training set have in common: corpus, inject, shuffle and mix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import FiniteFloat

from tlm.artifacts.step import Label
from tlm.artifacts.tables import Table
from tlm.stages.base import Stage
from tlm.study.treatments import Treatment

if TYPE_CHECKING:
    from tlm.data.corpus import Sample
    from tlm.data.ragged import Ragged
    from tlm.stages.job import Facts, Job

TOKENS: dict[str, Table | None] = {
    f"{name}.{half}.npy": None for name in ("tokens", "heldout") for half in ("ids", "offsets")
}
"""Its paragraphs, and those held out of every pre-training set of the study."""
ROWS: dict[str, Table | None] = {f"{name}.npy": None for name in ("rows", "heldout_rows", "reserve_rows")}
"""Where its paragraphs lie in their source, if they are all of one."""


class PretrainingSet(Stage):
    """Ws paragraphs to pre-train on, and a held-out split.

    The held-out split of a treated set is the untreated study's, so that held-out losses are of the same text.
    """

    told = {"mean_length": FiniteFloat}
    role = "corpus"

    if TYPE_CHECKING:  # fields of some of these stages, properties of the others

        @property
        def ws(self) -> int:
            """Paragraphs."""

        @property
        def corpus_seed(self) -> int:
            """Of the sample that it is, or was made from."""

        @property
        def treated(self) -> Treatment | None:
            """What was done to it beyond drawing Ws paragraphs at random."""

    @property
    def labels(self) -> dict[str, Label]:
        return {
            "ws": self.ws,
            "corpus_seed": self.corpus_seed,
            "treatment": self.treated.label if self.treated else None,
            "treatment_task": self.treated.task if self.treated else None,
        }


def write_corpus(job: Job, tokens: Iterable[Ragged], heldout: Ragged) -> Facts:
    """Save what every pre-training set has, its tokens and a held-out split, and return the facts about them.

    Args:
        tokens: its paragraphs, in parts of which each is in memory on its own.
    """
    from tlm.data.ragged import saving

    ws = total = 0
    with saving(job.out, "tokens") as write:
        for part in tokens:
            lengths = write(part)
            ws, total = ws + len(lengths), total + int(lengths.sum())
    heldout.save(job.out, "heldout")
    return {
        "ws": ws,
        "heldout": len(heldout),
        "tokens": total,
        "mean_length": total / ws,
    }


def write_rows(job: Job, sample: Sample) -> None:
    """Save the source rows of a pre-training set that is all of one source, for `Job.sample` to read."""
    import numpy as np

    for role, rows in (("rows", sample.rows), ("heldout_rows", sample.heldout), ("reserve_rows", sample.reserve)):
        np.save(job.out / f"{role}.npy", rows)
