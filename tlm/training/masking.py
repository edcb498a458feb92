"""Masked language modelling's corruption: 15 % of positions, 80 % [MASK], 10 % random, 10 % unchanged (BERT)."""

from __future__ import annotations

import torch

from tlm.tokenizer import Vocabulary

IGNORED = -100
"""Label of positions that are not predicted."""


class Masker:
    """Draws corruptions from its own generator, so that dropout and masking never disturb each other."""

    def __init__(self, vocabulary: Vocabulary, mlm_probability: float, seed: int) -> None:
        self.vocabulary = vocabulary
        self.mlm_probability = mlm_probability
        self.generator = torch.Generator().manual_seed(seed)
        # [UNK] is an ordinary token here, as in the reference code: only [PAD], [CLS] and [SEP] are never predicted.
        self.never = torch.tensor([vocabulary.pad, vocabulary.cls, vocabulary.sep])

    def __call__(self, ids_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return corrupted ids_BT and labels_BT (the original id where predicted, IGNORED elsewhere), both int64 on CPU."""
        chance_BT = torch.rand(ids_BT.shape, generator=self.generator)
        predicted_BT = (chance_BT < self.mlm_probability) & ~torch.isin(ids_BT, self.never)
        labels_BT = torch.where(predicted_BT, ids_BT, IGNORED)
        fate_BT = torch.rand(ids_BT.shape, generator=self.generator)
        random_BT = torch.randint(len(self.vocabulary), ids_BT.shape, generator=self.generator)
        corrupted_BT = torch.where(predicted_BT & (fate_BT < 0.8), self.vocabulary.mask, ids_BT)
        corrupted_BT = torch.where(predicted_BT & (fate_BT >= 0.9), random_BT, corrupted_BT)
        return corrupted_BT, labels_BT
