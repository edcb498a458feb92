"""Word vectors without a neural network: a factorised matrix of how tokens go together (PPMI-SVD).

Shapes: V tokens of the vocabulary, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlm.data.ragged import Ragged
from tlm.errors import UserError
from tlm.study.initialization import PpmiSvdConfig

COUNTED_AT_ONCE = 4_000_000
"""Tokens of text whose pairs are counted together, so that memory does not grow with Ws."""
POWER_ITERATIONS = 4
"""Of the randomised SVD (Halko, Martinsson and Tropp 2011): more of them make the last dimensions exact."""
OVERSAMPLES = 10
"""Columns that it computes beside those that are asked for: scikit-learn's default."""


def ppmi_svd(sequences: Ragged, vocab_size: int, dimensions: int, config: PpmiSvdConfig) -> NDArray[np.float32]:
    """The vectors U·√S of the positive pointwise mutual information of tokens and their neighbours, (V, D).

    The same sequences and seed give the same bits, whatever the number of threads. A token that is not in the text,
    or goes with none more often than by chance, is a row of zeros; `config.std` is the standard deviation over all others.

    Raises:
        UserError: if there are more dimensions than tokens, or no two tokens next to each other.
    """
    return factorised(ppmi_matrix(sequences, vocab_size, config), dimensions, config)


def factorised(ppmi: Any, dimensions: int, config: PpmiSvdConfig) -> NDArray[np.float32]:
    """The second half of `ppmi_svd`, from what `ppmi_matrix` makes."""
    from sklearn.utils.extmath import randomized_svd
    from threadpoolctl import threadpool_limits

    vocab_size = ppmi.shape[0]
    if dimensions > vocab_size:
        raise UserError(
            f"ppmi_svd: {dimensions} dimensions are asked of a vocabulary of {vocab_size} tokens.",
            f"Use a hidden_size of {vocab_size} or less, or a larger vocabulary.",
        )
    if not ppmi.nnz:
        raise UserError(
            "ppmi_svd: no two tokens of the pre-training set go together more often than by chance.",
            "Use a larger Ws, or embeddings of kind normal.",
        )
    with threadpool_limits(limits=1):  # how sums are split among threads would show in their last bits
        left_VD, scale_D, _ = randomized_svd(ppmi, dimensions, n_iter=POWER_ITERATIONS, random_state=config.seed)
    vectors_VD = left_VD * np.sqrt(scale_D)
    known_V = np.diff(ppmi.indptr) > 0
    vectors_VD[~known_V] = 0.0
    return (vectors_VD * (config.std / vectors_VD[known_V].std())).astype(np.float32)


def svd_flops(ppmi: Any, dimensions: int) -> float:
    """About how many floating point operations `factorised` takes; counting pairs, in whole numbers, is left out.

    With K = dimensions + OVERSAMPLES columns, a product with the matrix is 2·nnz·K, and each of the 2·POWER_ITERATIONS + 2
    products is followed by work on a dense (V, K) matrix, 2·V·K².
    """
    columns = dimensions + OVERSAMPLES
    products = 2 * POWER_ITERATIONS + 2
    return float(products * (2 * ppmi.nnz * columns + 2 * ppmi.shape[0] * columns**2))


def ppmi_matrix(sequences: Ragged, vocab_size: int, config: PpmiSvdConfig) -> Any:
    """max(0, log p(w, c) / (p(w) p(c))) of tokens w and their neighbours c, as a sparse (V, V) matrix, float32.

    The probability of a neighbour is proportional to its count to the power of `context_power`.
    """
    from scipy.sparse import csr_matrix

    counts: Any = csr_matrix((vocab_size, vocab_size), dtype=np.float64)
    for first, second in _neighbours(sequences, config.window):
        ones = np.ones(len(first))
        counts = counts + csr_matrix((ones, (first, second)), shape=counts.shape)
    counts = (counts + counts.T).tocsr()
    of_token_V = np.asarray(counts.sum(axis=1)).ravel()
    weight_V = of_token_V**config.context_power
    with np.errstate(divide="ignore"):  # tokens without a neighbour are in no pair
        log_token_V, log_context_V = np.log(of_token_V), np.log(weight_V / max(weight_V.sum(), 1.0))
    counts.data = np.log(counts.data) - np.repeat(log_token_V, np.diff(counts.indptr)) - log_context_V[counts.indices]
    counts.data = np.maximum(counts.data, 0.0)
    counts.eliminate_zeros()
    counts.sort_indices()
    return counts.astype(np.float32)


def _neighbours(sequences: Ragged, window: int) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """(tokens, the token that follows each at one distance) of one sequence, for every distance and part of the text."""
    places = np.arange(0, max(1, len(sequences.ids)), COUNTED_AT_ONCE)
    starts = np.unique(np.searchsorted(sequences.offsets, places, side="right") - 1)
    for start, end in zip(starts, [*starts[1:], len(sequences)], strict=True):
        part = sequences.take(np.arange(start, end))
        ids, sequence = part.ids.astype(np.int32), part.sequence_of
        for distance in range(1, window + 1):
            together = sequence[:-distance] == sequence[distance:]
            yield ids[:-distance][together], ids[distance:][together]
