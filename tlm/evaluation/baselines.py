"""What any model must beat on the same split: the majority class, and TF-IDF with logistic regression."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Baseline = Callable[[Sequence[str], Labels, Sequence[str]], NDArray[np.float64]]
"""(training texts, their labels 0 … C - 1, test texts) → log-probabilities (test items, C).

It raises ValueError with the reason if it cannot be fitted on these texts.
"""


def majority(train_texts: Sequence[str], train_labels: Labels, test_texts: Sequence[str]) -> NDArray[np.float64]:
    """The training frequencies of the labels, whatever the text (the lowest label wins a tie)."""
    counts = np.bincount(train_labels)
    return np.tile(np.log(np.maximum(counts, 1e-12) / counts.sum()), (len(test_texts), 1))


def tfidf(train_texts: Sequence[str], train_labels: Labels, test_texts: Sequence[str]) -> NDArray[np.float64]:
    """Word unigrams and bigrams, sublinear TF-IDF, L2 logistic regression (C = 10).

    A word has two letters or more, between characters that are neither letters nor digits.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=1)
    try:
        vectors = vectorizer.fit_transform(train_texts)
    except ValueError as error:
        raise ValueError("no training item has a word of two letters") from error
    model = LogisticRegression(C=10.0, max_iter=1_000)
    model.fit(vectors, train_labels)
    return np.asarray(model.predict_log_proba(vectorizer.transform(test_texts)))


BASELINES: dict[str, Baseline] = {"majority": majority, "tfidf": tfidf}
