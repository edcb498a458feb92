"""Baselines: log-probabilities in the order of the labels, the same every time."""

from __future__ import annotations

import numpy as np
import pytest

from tlm.evaluation.baselines import BASELINES

TEXTS = ["red round fruit", "a red fruit", "fast blue car", "the car is fast", "fruit of red"]
LABELS = np.array([0, 0, 1, 1, 0])


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_gives_normalised_log_probabilities_and_repeats_itself(name: str) -> None:
    found = BASELINES[name](TEXTS, LABELS, ["a fruit", "never seen"])
    assert found.shape == (2, 2)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1)
    assert np.array_equal(found, BASELINES[name](TEXTS, LABELS, ["a fruit", "never seen"]))


def test_majority_predicts_the_most_frequent_label_whatever_the_text() -> None:
    found = BASELINES["majority"](TEXTS, LABELS, ["fast car", "x", "y"])
    assert found.argmax(axis=1).tolist() == [0, 0, 0]
    np.testing.assert_allclose(np.exp(found[0]), [0.6, 0.4])


def test_majority_of_a_tie_is_the_lowest_label() -> None:
    assert BASELINES["majority"](["a", "b"], np.array([1, 0]), ["c"]).argmax() == 0


def test_tfidf_learns_which_words_go_with_which_label() -> None:
    found = BASELINES["tfidf"](TEXTS, LABELS, ["the fruit was red", "my fast car", "car"])
    assert found.argmax(axis=1).tolist() == [0, 1, 1]


@pytest.mark.parametrize("texts", [["a", "b", "c", "d", "e"], ["?!", "...", "–", "1", "2"]])
def test_tfidf_says_why_it_cannot_be_fitted(texts: list[str]) -> None:
    with pytest.raises(ValueError, match="no training item has a word of two letters"):
        BASELINES["tfidf"](texts, LABELS, ["a word"])
