"""How likely a language model finds a text that follows a prefix.

Decoders: the sum of log p of each token given all before it, the first given the begin token, [CLS] (exact). Encoders: the
pseudo-log-likelihood (Salazar et al. 2020, arXiv 1910.14659): the sum of log p of each token, masked, given all others.
The end, [SEP], is not scored; an encoder sees it.

Shapes: N texts, B sequences of a batch, R rows, Q queried rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from tlm.data.ragged import Ragged, Rows
from tlm.data.tokenizer import Vocabulary
from tlm.modeling.families.base import family_of
from tlm.modeling.layout import Queries
from tlm.training.memory import out_of_memory_is

LOGITS_AT_ONCE = {"cpu": 2**22, "cuda": 2**24}
"""Numbers: 16 MB on a CPU, whose caches hold no more, and 64 MB."""
ROWS_AT_ONCE = 8_192
"""Tokens."""


@torch.inference_mode()
def log_likelihoods(
    model: Any,
    texts: Ragged,
    starts: Rows,
    vocabulary: Vocabulary,
    *,
    max_length: int,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float64]:
    """Σ log p, in nats, of each text's tokens from its start on, given those before it. NaN for an empty text.

    Computed in float32, with no padding: sequences of a batch have one length. Equal texts are computed once, so that their
    results are equal.

    Args:
        model: a language model of any family, on `device`; it is left in evaluation mode.
        texts: token ids without special tokens, (N,).
        starts: where in each text the part begins that is scored, (N,).
        max_length: tokens of a sequence at most, [CLS] and [SEP] counted.

    Raises:
        ValueError: if a text does not fit `max_length`, or nothing of it would be scored.
        UserError: if the memory does not hold a batch.
    """
    lengths = texts.lengths
    if (lengths > max_length - 2).any() or (starts[lengths > 0] >= lengths[lengths > 0]).any():
        raise ValueError(f"texts must fit max_length={max_length} with [CLS] and [SEP], and starts lie within them")
    model.eval()
    causal = family_of(model.config).causal
    pack = family_of(model.config).packer(model.config, device)
    rows, same_as = _distinct(texts, starts)
    sums, done, wanted = np.zeros(len(texts)), 0, int((lengths - starts)[rows].sum())
    at_once = LOGITS_AT_ONCE[torch.device(device).type] // len(vocabulary)
    for batch in _batches(lengths, starts, rows, at_once, causal=causal):
        packed = pack(texts, batch.texts_B, vocabulary, max_length)
        rows_Q = torch.from_numpy(packed.layout.first_rows().numpy()[batch.which_Q] + 1 + batch.at_Q)
        labels_Q, ids_R = packed.ids_R[rows_Q], packed.ids_R
        if causal:
            rows_Q = rows_Q - 1
        else:
            ids_R = ids_R.index_fill(0, rows_Q, vocabulary.mask)
        queries = Queries.of(packed.layout, rows_Q)
        with out_of_memory_is(f"out of memory on {device} with a batch of {len(batch.texts_B)} texts to score"):
            logits_QV = model.logits(ids_R.to(device), packed.layout.to(device), queries.to(device)).float()
            losses_Q = cross_entropy(logits_QV, labels_Q.to(device), reduction="none")
        np.subtract.at(sums, batch.texts_B[batch.which_Q], losses_Q.cpu().numpy().astype(np.float64))
        done += len(rows_Q)
        if progress is not None:
            progress(done, wanted)
    found = sums[same_as]
    found[lengths == 0] = np.nan
    return found


class _Batch(NamedTuple):
    """Sequences of one length, and the tokens of them that are asked for: Q queries, ascending."""

    texts_B: Rows
    """An encoder's text comes once for each of its masked tokens."""
    which_Q: Rows
    """The sequence of each query."""
    at_Q: Rows
    """The token of that sequence, [CLS] not counted."""


def _batches(lengths: Rows, starts: Rows, rows: Rows, at_once: int, *, causal: bool) -> Iterator[_Batch]:
    """The longest first: the memory that they leave holds all that follow. `at_once`: queries of a batch."""
    for length in np.unique(lengths[rows])[::-1].tolist():
        same = rows[lengths[rows] == length]
        most = ROWS_AT_ONCE // (length + 2)
        if causal:
            size = max(1, min(most, at_once // length))
            for first in range(0, len(same), size):
                texts_B = same[first : first + size]
                yield _Batch(texts_B, *_tokens_from(starts[texts_B], length))
        else:
            size = max(1, min(most, at_once))
            which, at = _tokens_from(starts[same], length)
            for first in range(0, len(which), size):
                texts_B = same[which[first : first + size]]
                yield _Batch(texts_B, np.arange(len(texts_B)), at[first : first + size])


def _tokens_from(starts: Rows, length: int) -> tuple[Rows, Rows]:
    """For sequences of one length, every token from its start on: the number of the sequence, and that of the token."""
    inside = np.arange(length) >= starts[:, None]
    which, at = np.nonzero(inside)
    return which, at


def _distinct(texts: Ragged, starts: Rows) -> tuple[Rows, Rows]:
    """The first text of each kind that is not empty; and for every text, which one it equals."""
    first: dict[tuple[int, bytes], int] = {}
    same_as = np.empty(len(texts), dtype=np.int64)
    for row, start in enumerate(starts.tolist()):
        same_as[row] = first.setdefault((start, texts[row].tobytes()), row)
    rows = np.unique(same_as)
    return rows[texts.lengths[rows] > 0], same_as
