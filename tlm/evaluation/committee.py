"""Committees: several members' predictions on the same items, combined. No model is needed (paper: soft committee)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

Scores = NDArray[np.float64]
Rule = Callable[[Scores], Scores]
"""logits_MNC (members, items, classes) → scores_NC; the highest score is the prediction."""


def soft(logits_MNC: Scores) -> Scores:
    """Mean of the members' softmax outputs: the paper's soft committee."""
    return softmax(logits_MNC, axis=2).mean(axis=0)


def logit(logits_MNC: Scores) -> Scores:
    """Mean of the members' log-probabilities: the ranking of mean logits, whatever each item's offset in each member."""
    return log_softmax(logits_MNC, axis=2).mean(axis=0)


def vote(logits_MNC: Scores) -> Scores:
    """Share of the members whose first choice a class is; ties go to the class with the higher soft score."""
    # Soft scores lie in [0, 1]; half a vote's worth of them can break a tie but never outweigh a vote.
    return vote_shares(logits_MNC) + soft(logits_MNC) / (2 * len(logits_MNC))


def vote_shares(logits_MNC: Scores) -> Scores:
    """Share of the members whose first choice each class is: (items, classes)."""
    _, _, classes = logits_MNC.shape
    choices_MN = logits_MNC.argmax(axis=2)
    return np.stack([(choices_MN == c).mean(axis=0) for c in range(classes)], axis=1)


def disjoint(members: int, size: int) -> list[slice]:
    """The committees of `size` members that `members` make up without sharing one, in the members' order."""
    return [slice(start, start + size) for start in range(0, members - size + 1, size)]


RULES: dict[str, Rule] = {"soft": soft, "logit": logit, "vote": vote}


def combine(logits_MNC: NDArray[np.floating[Any]], rule: str) -> Scores:
    """Scores (items, classes) of the committee under `rule`, one of RULES.

    Raises:
        ValueError: if the array is not 3-D or has no member.
    """
    if logits_MNC.ndim != 3 or not len(logits_MNC):
        raise ValueError(f"logits must be (members, items, classes) with at least one member, got {logits_MNC.shape}")
    return RULES[rule](np.asarray(logits_MNC, dtype=np.float64))


def probabilities(logits_MNC: NDArray[np.floating[Any]], rule: str) -> Scores:
    """What to show beside a decision under `rule`: (items, classes), rows sum to 1.

    soft: the mean probabilities; vote: shares of the votes (a tie is decided by `combine`); logit: the members'
    geometric mean, normalised. A rule added to RULES is shown like the first if its scores are not negative, else like
    the last.
    """
    exact = np.asarray(logits_MNC, dtype=np.float64)
    scores_NC = vote_shares(exact) if rule == "vote" else combine(exact, rule)
    if (scores_NC < 0).any():
        return softmax(scores_NC, axis=1)
    return scores_NC / scores_NC.sum(axis=1, keepdims=True)
