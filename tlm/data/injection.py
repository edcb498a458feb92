"""Missing-token injection (paper: Table 4): remove chosen tokens of a task from a pre-training set, at fixed Ws.

Two registries, one function each: *which* tokens go (`SELECTIONS`) and *how* they go (`REMOVALS`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tlm.data.corpus import Sample
from tlm.data.overlap import Counts
from tlm.data.ragged import Ragged, Rows, concatenate
from tlm.errors import UserError
from tlm.study.treatments import Removal as RemovalConfig

TokenIds = NDArray[np.int64]
Selection = Callable[[TokenIds, Counts, int, np.random.Generator], TokenIds]
"""(candidate token ids, their occurrences in the task, how many, generator) → the ids to remove."""


@dataclass(frozen=True)
class Source:
    """What a removal may use: the tokens of the whole source and the roles of its rows."""

    tokens: Ragged
    sample: Sample
    unk: int | None
    """The id of [UNK]; None if the tokenizer has none."""


Removal = Callable[[Source, NDArray[np.bool_]], tuple[Ragged, Rows]]
"""(source, removed[token id]) → the new corpus and the source row of each of its sequences; always Ws of them."""


# --- which tokens ---


def select_random(ids: TokenIds, counts: Counts, size: int, generator: np.random.Generator) -> TokenIds:
    """Tokens drawn at random, each with the same probability."""
    return generator.permutation(ids)[:size]


def select_most_frequent(ids: TokenIds, counts: Counts, size: int, generator: np.random.Generator) -> TokenIds:
    """The task's most frequent tokens; ties in random order."""
    return ids[_by_count(-counts, generator)[:size]]


def select_rarest(ids: TokenIds, counts: Counts, size: int, generator: np.random.Generator) -> TokenIds:
    """The task's rarest tokens; ties in random order."""
    return ids[_by_count(counts, generator)[:size]]


def select_stratified(ids: TokenIds, counts: Counts, size: int, generator: np.random.Generator) -> TokenIds:
    """Evenly over the frequency range: one random token from each of `size` equal slices of the ranking by count."""
    ranked = ids[_by_count(-counts, generator)]
    edges = np.linspace(0, len(ranked), size + 1).astype(np.int64)
    return ranked[generator.integers(edges[:-1], edges[1:])]


SELECTIONS: dict[str, Selection] = {
    "random": select_random,
    "most_frequent": select_most_frequent,
    "rarest": select_rarest,
    "stratified": select_stratified,
}


# --- how they go ---


def replace_by_unk(source: Source, removed: NDArray[np.bool_]) -> tuple[Ragged, Rows]:
    """Replace every occurrence by [UNK], so that no paragraph changes its length. Raises UserError if there is no [UNK]."""
    if source.unk is None:
        raise UserError("removal: unk needs a tokenizer with [UNK], and this one has none.", "Use another removal.")
    corpus = source.tokens.take(source.sample.rows)
    ids = np.where(removed[corpus.ids], np.uint16(source.unk), corpus.ids).astype(np.uint16)
    return Ragged(ids, corpus.offsets), source.sample.rows


def delete(source: Source, removed: NDArray[np.bool_]) -> tuple[Ragged, Rows]:
    """Delete every occurrence, which shortens paragraphs; one that is left empty is replaced from the reserve."""
    return _kept_and_refilled(
        source, lambda tokens: tokens.keep(~removed[tokens.ids]), lambda tokens: tokens.lengths > 0
    )


def drop_paragraphs(source: Source, removed: NDArray[np.bool_]) -> tuple[Ragged, Rows]:
    """Replace each paragraph that holds a removed token by one from the reserve that holds none."""

    def holds_none(tokens: Ragged) -> NDArray[np.bool_]:
        hits = np.bincount(tokens.sequence_of, weights=removed[tokens.ids], minlength=len(tokens))
        return hits == 0

    return _kept_and_refilled(source, lambda tokens: tokens, holds_none)


REMOVALS: dict[str, Removal] = {"unk": replace_by_unk, "delete": delete, "drop": drop_paragraphs}


# --- the stage's function ---


def inject_missing_tokens(
    source: Source, corpus_counts: Counts, task_counts: Counts, config: RemovalConfig
) -> tuple[Ragged, Rows, TokenIds]:
    """Remove tokens that corpus and task have in common from the corpus.

    Returns:
        The new corpus (Ws sequences, none holding a removed token), the source row of each, and the removed token ids,
        ascending.

    Raises:
        UserError: if fewer tokens are in common than asked for, or the reserve runs out.
    """
    common = np.flatnonzero((corpus_counts > 0) & (task_counts > 0)).astype(np.int64)
    size = config.count if config.count is not None else round((config.share or 0.0) * len(common))
    if size > len(common):
        raise UserError(
            f"treatments: count={size} tokens to remove, but the corpus (Ws={len(source.sample.rows)}) and the task "
            f"have only {len(common)} in common.",
            f"Choose up to {len(common)}." if len(common) else "Choose a larger Ws.",
        )
    generator = np.random.default_rng([config.seed, 0x1_27EC7])
    chosen = SELECTIONS[config.selection](common, task_counts[common], size, generator)
    removed = np.zeros(len(corpus_counts), dtype=bool)
    removed[chosen] = True
    tokens, rows = REMOVALS[config.removal](source, removed)
    if removed[tokens.ids].any() or len(tokens) != len(source.sample.rows):
        raise RuntimeError(f"removal {config.removal!r} broke its promise: tokens left behind, or Ws changed")
    return tokens, rows, np.sort(chosen)


def _by_count(keys: Counts, generator: np.random.Generator) -> NDArray[np.int64]:
    return np.lexsort((generator.random(len(keys)), keys))


def _kept_and_refilled(
    source: Source, change: Callable[[Ragged], Ragged], accept: Callable[[Ragged], NDArray[np.bool_]]
) -> tuple[Ragged, Rows]:
    """Keep the accepted sequences in place and append accepted ones from the reserve until there are Ws again."""
    ws = len(source.sample.rows)
    own = change(source.tokens.take(source.sample.rows))
    kept = np.flatnonzero(accept(own))
    spare = change(source.tokens.take(source.sample.reserve))
    usable = np.flatnonzero(accept(spare))[: ws - len(kept)]
    if len(kept) + len(usable) < ws:
        raise UserError(
            f"treatments: only {len(kept) + len(usable)} paragraphs without the removed tokens are left for Ws={ws}.",
            "Remove fewer or rarer tokens, lower Ws, or use removal: unk.",
        )
    rows = np.concatenate([source.sample.rows[kept], source.sample.reserve[usable]])
    return concatenate([own.take(kept), spare.take(usable)]), rows
