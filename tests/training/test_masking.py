"""Masked language modelling's corruption: which positions are predicted, and what stands there instead."""

from __future__ import annotations

import math

import pytest
import torch
from toy import VOCABULARY

from tlm.modeling.loss import IGNORED_LABEL
from tlm.training.masking import Masker


def masked(seed: int = 0, probability: float = 0.15) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ids = torch.randint(5, 40, (400, 100), generator=torch.Generator().manual_seed(1))
    ids[:, 0], ids[:, 50], ids[:, 80:] = VOCABULARY.cls, VOCABULARY.sep, VOCABULARY.pad
    corrupted, labels = Masker(VOCABULARY, probability, seed)(ids, step=1)
    return ids, corrupted, labels


def assert_share(hits: int, trials: int, probability: float) -> None:
    deviation = math.sqrt(trials * probability * (1 - probability))
    assert abs(hits - trials * probability) < 4 * deviation, (hits, trials, probability)


@pytest.mark.parametrize("probability", [0.15, 0.4])
def test_the_asked_share_of_positions_is_predicted_80_10_10(probability: float) -> None:
    ids, corrupted, labels = masked(probability=probability)
    ordinary = ids >= 5
    predicted = labels != IGNORED_LABEL
    assert_share(int(predicted.sum()), int(ordinary.sum()), probability)
    total = int(predicted.sum())
    became_mask = predicted & (corrupted == VOCABULARY.mask)
    unchanged = predicted & (corrupted == ids)
    # A random token is the original or [MASK] once in 40 draws.
    assert_share(int(became_mask.sum()), total, 0.8 + 0.1 / 40)
    assert_share(int(unchanged.sum()), total, 0.1 + 0.1 / 40)
    random = corrupted[predicted & ~became_mask & ~unchanged]
    assert len(set(random.tolist())) > 30, "random tokens come from the whole vocabulary"


def test_labels_are_the_originals_and_unpredicted_positions_are_untouched() -> None:
    ids, corrupted, labels = masked()
    predicted = labels != IGNORED_LABEL
    assert torch.equal(labels[predicted], ids[predicted])
    assert torch.equal(corrupted[~predicted], ids[~predicted])


def test_special_tokens_are_never_predicted() -> None:
    ids, _, labels = masked(probability=0.9)
    special = torch.isin(ids, torch.tensor([VOCABULARY.pad, VOCABULARY.cls, VOCABULARY.sep]))
    assert (labels[special] == IGNORED_LABEL).all()


def test_masking_is_a_function_of_its_seed_alone() -> None:
    torch.manual_seed(1)
    one = masked(seed=3)
    torch.manual_seed(2)
    assert all(torch.equal(a, b) for a, b in zip(one, masked(seed=3), strict=True))
    assert not torch.equal(one[1], masked(seed=4)[1])
