"""Pre-training sets: a fixed held-out part, and nested samples of size Ws (paper: Ws random Wikipedia entries).

For one seed every source row has one place in one order. The first `heldout` rows validate; the Ws-sample is the Ws rows
after them, so that Ws = 2,000 is contained in Ws = 4,000 and sizes are compared, not draws. What follows is the reserve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tlm.errors import UserError
from tlm.ragged import Ragged, Rows

Sampler = Callable[[Ragged, Rows, np.random.Generator], Rows]
"""(tokens of the source, candidate rows in random order, generator) → the same rows, the best to pre-train on first."""


def random_order(tokens: Ragged, candidates: Rows, generator: np.random.Generator) -> Rows:
    """The paper's sample: random entries."""
    return candidates


SAMPLERS: dict[str, Sampler] = {"random": random_order}


@dataclass(frozen=True)
class Sample:
    """Source rows by role; the three are disjoint."""

    heldout: Rows
    rows: Rows
    reserve: Rows


def sample_corpus(tokens: Ragged, *, ws: int, heldout: int, sampler: str, seed: int) -> Sample:
    """Draw the pre-training set of size `ws`. Raises UserError if the source is too small."""
    check_size(len(tokens), ws=ws, heldout=heldout)
    generator = np.random.default_rng([seed, 0xC0_12_05])
    order = generator.permutation(len(tokens)).astype(np.int64)
    candidates = SAMPLERS[sampler](tokens, order[heldout:], generator)
    return Sample(heldout=order[:heldout], rows=candidates[:ws], reserve=candidates[ws:])


def check_size(available: int, *, ws: int, heldout: int) -> None:
    """Raise UserError unless `ws` paragraphs and the held-out part fit into the source."""
    if ws + heldout > available:
        raise UserError(
            f"corpus.sizes: Ws={ws} and heldout={heldout} need {ws + heldout} paragraphs; the source has {available}.",
            f"Choose Ws up to {max(0, available - heldout)}.",
        )
