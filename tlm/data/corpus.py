"""Pre-training sets: a fixed held-out part, and nested samples of size Ws (paper: Ws random Wikipedia entries).

For one seed every source row has one place in one order. The first `heldout` rows validate, whatever the sampler; it orders
the rows after them, and the Ws-sample is the first Ws of its order, so that Ws = 2,000 is contained in Ws = 4,000 and sizes
are compared, not draws. What follows is the reserve.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tlm.data import samplers
from tlm.data.ragged import Ragged, Rows
from tlm.data.samplers import Draw, Sampler
from tlm.errors import UserError


@dataclass(frozen=True)
class SamplerEntry:
    """A sampler, and what it needs to be given."""

    function: Sampler
    needs_task: bool = False
    needs_level: bool = False
    covers: bool = False
    """Whether a sample must hold every token type of the task that the source holds: a Ws too small for that is refused."""


SAMPLERS: dict[str, SamplerEntry] = {
    "random": SamplerEntry(samplers.random_order),
    "coverage": SamplerEntry(samplers.coverage, needs_task=True),
    "weighted_coverage": SamplerEntry(samplers.weighted_coverage, needs_task=True),
    "bm25": SamplerEntry(samplers.bm25, needs_task=True),
    "least_overlap": SamplerEntry(samplers.least_overlap, needs_task=True),
    "irrelevant": SamplerEntry(samplers.irrelevant, needs_task=True, needs_level=True, covers=True),
}


@dataclass(frozen=True)
class Sample:
    """Rows of the source by role (held-out, sample of size Ws, reserve); no row has two roles."""

    heldout: Rows
    rows: Rows
    reserve: Rows
    core: int | None = None
    """For a sampler that covers the task: how many of the first rows are enough to do so."""


def sample_corpus(
    tokens: Ragged,
    *,
    ws: int,
    heldout: int,
    sampler: str,
    seed: int,
    usable: Rows | None = None,
    task: Ragged | None = None,
    level: float | None = None,
) -> Sample:
    """Draw the pre-training set of size `ws`.

    Args:
        tokens: the source; if a task is given, without special tokens.
        usable: the rows that may be drawn; by default those that have a token.
        task: the task's training items, without special tokens, for a sampler that chooses by them.
        level: 0 … 1, for a sampler with a level.

    Raises:
        UserError: if the source is too small, the sampler does not get what it needs or gets what it does not take, the
            task is empty, or `ws` is less than the sampler needs to cover the task.
    """
    usable = np.flatnonzero(tokens.lengths) if usable is None else usable
    check_size(len(usable), ws=ws, heldout=heldout, without_token=len(tokens) - len(usable))
    check_sampler(sampler, task=task is not None, level=level)
    if task is not None and not len(task.ids):
        raise UserError(
            f"sampler {sampler!r}: the task's training items hold no token.",
            "Use a vocabulary that fits the text.",
        )
    entry = SAMPLERS[sampler]
    generator = np.random.default_rng([seed, 0xC0_12_05])
    order = generator.permutation(usable)
    draw = Draw(tokens, order[heldout:], generator, task, level)
    candidates = entry.function(draw)
    core = samplers.covering_size(draw, candidates) if entry.covers else None
    if core is not None and ws < core:
        raise UserError(
            f"sampler {sampler!r}: Ws={ws} is less than the {core} paragraphs that it takes to cover the task.",
            f"Choose Ws from {core} up.",
        )
    return Sample(heldout=order[:heldout], rows=candidates[:ws], reserve=candidates[ws:], core=core)


def check_size(available: int, *, ws: int, heldout: int, without_token: int = 0, advice: str = "") -> None:
    """Raise UserError unless `ws` paragraphs and the held-out part fit into the source.

    Args:
        available: the source's paragraphs with a token.
        without_token: its other paragraphs.
        advice: what else may help, a sentence.
    """
    if ws + heldout <= available:
        return
    others = f" with a token, and {without_token} without" if without_token else ""
    if available > heldout:
        way_out = f"Choose Ws up to {available - heldout}."
    else:
        way_out = f"Give it more text{', or lower corpus.heldout' if available > 1 else ''}."
    raise UserError(
        f"corpus.sizes: Ws={ws} and heldout={heldout} need {ws + heldout} paragraphs; the source has {available}{others}.",
        f"{way_out} {advice}".rstrip(),
    )


def check_sampler(sampler: str, *, task: bool, level: float | None) -> None:
    """Raise UserError unless a task and a level (0 … 1) are given just where the sampler takes them."""
    entry = SAMPLERS[sampler]
    if entry.needs_task and not task:
        raise UserError(
            f"sampler {sampler!r} chooses by a task, and none is given.",
            "Use it in a treatment of kind: sampled, which names one.",
        )
    if entry.needs_level and level is None:
        raise UserError(f"sampler {sampler!r} needs a level, and none is given.", "Set its level, from 0 to 1.")
    for name, given, taken in (("task", task, entry.needs_task), ("level", level is not None, entry.needs_level)):
        if given and not taken:
            raise UserError(
                f"sampler {sampler!r} takes no {name}, and one is given.", "Leave it out, or use another sampler."
            )
    if level is not None and not 0 <= level <= 1:
        raise UserError(f"sampler {sampler!r}: level={level} is outside 0 to 1.", "Choose from 0 to 1.")
