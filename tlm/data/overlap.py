"""Token overlap between a pre-training set and a task (paper: the number of task tokens missing from Ws).

Counts are numpy; their tables are Parquet, which DuckDB queries.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tlm.data.ragged import Ragged
from tlm.data.tokenizer import Vocabulary
from tlm.errors import UserError

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class TokenCounts:
    """For each token id: its occurrences, and the number of sequences that hold it. Special tokens count as absent."""

    occurrences: Counts
    documents: Counts


@dataclass(frozen=True)
class Overlap:
    """Every measure of how much of a task's vocabulary a corpus holds. Types are distinct tokens.

    With p the task's and q the corpus's token distribution, divergences are in bits; KL(p‖q) smooths q by adding one
    occurrence to every type of either side, since it is infinite as soon as one token is missing.
    """

    corpus_types: int
    task_types: int
    common_types: int
    missing_from_corpus: int
    missing_from_task: int
    type_overlap: float
    """common / task types."""
    occurrence_overlap: float
    """The share of the task's token occurrences whose type is in the corpus."""
    jaccard: float
    weighted_jaccard: float
    """Σ min(p, q) / Σ max(p, q)."""
    js_divergence: float
    kl_divergence: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def count_tokens(sequences: Ragged, vocabulary: Vocabulary) -> TokenCounts:
    """Count every token of `sequences`, in memory for some of them at a time."""
    size = len(vocabulary)
    occurrences, documents = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    for part in sequences.parts():
        occurrences += np.bincount(part.ids, minlength=size)
        pairs = np.sort(part.sequence_of * size + part.ids)  # np.unique takes ten times as long: it hashes them first
        first = np.append(True, pairs[1:] != pairs[:-1])[: len(pairs)]
        documents += np.bincount(pairs[first] % size, minlength=size)
    special = list(vocabulary.special_ids)
    occurrences[special] = 0
    documents[special] = 0
    return TokenCounts(occurrences, documents)


def measure_overlap(corpus: Counts, task: Counts) -> Overlap:
    """All measures from two arrays of occurrences by token id (both of the vocabulary's length).

    Raises:
        ValueError: if the lengths differ.
        UserError: if either side holds no token (a vocabulary in another script, say).
    """
    if corpus.shape != task.shape:
        raise ValueError(f"counts of different vocabularies: {corpus.shape} and {task.shape}")
    if not corpus.sum() or not task.sum():
        raise UserError(
            "overlap of an empty corpus or task: no token of the vocabulary is in it.",
            "Use a vocabulary that fits the text.",
        )
    in_corpus, in_task = corpus > 0, task > 0
    common, either = in_corpus & in_task, in_corpus | in_task
    p, q = task / task.sum(), corpus / corpus.sum()
    smoothed = (corpus + 1)[either] / (corpus + 1)[either].sum()
    middle = (p + q) / 2
    return Overlap(
        corpus_types=int(in_corpus.sum()),
        task_types=int(in_task.sum()),
        common_types=int(common.sum()),
        missing_from_corpus=int((in_task & ~in_corpus).sum()),
        missing_from_task=int((in_corpus & ~in_task).sum()),
        type_overlap=float(common.sum() / in_task.sum()),
        occurrence_overlap=float(task[common].sum() / task.sum()),
        jaccard=float(common.sum() / either.sum()),
        weighted_jaccard=float(np.minimum(p, q).sum() / np.maximum(p, q).sum()),
        js_divergence=(_divergence(p, middle) + _divergence(q, middle)) / 2,
        kl_divergence=_divergence(p[either], smoothed),
    )


def token_table(vocabulary: Vocabulary, corpus: TokenCounts, task: TokenCounts) -> pd.DataFrame:
    """One row for each token that either side holds: id, token, occurrences and documents on both sides."""
    table = pd.DataFrame(
        {
            "token_id": np.arange(len(vocabulary), dtype=np.int32),
            "token": vocabulary.tokens,
            "corpus_count": corpus.occurrences,
            "corpus_documents": corpus.documents,
            "task_count": task.occurrences,
            "task_documents": task.documents,
        }
    )
    return table[(table["corpus_count"] > 0) | (table["task_count"] > 0)].reset_index(drop=True)


def _divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """KL(p‖q) in bits; q must be positive wherever p is."""
    positive = p > 0
    return float(np.sum(p[positive] * np.log2(p[positive] / q[positive])))
