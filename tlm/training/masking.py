"""What a language model is asked. Masked: 15 % of positions, 80 % [MASK], 10 % random, 10 % unchanged (BERT); causal: every
next token (GPT-2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tlm.data.tokenizer import Vocabulary
from tlm.modeling.layout import Queries
from tlm.modeling.loss import IGNORED_LABEL
from tlm.modeling.packing import Packed


class Masker:
    """Draws corruptions from a generator of its own for each step: nothing that was drawn before has an effect."""

    def __init__(self, vocabulary: Vocabulary, mlm_probability: float, seed: int) -> None:
        self.vocabulary = vocabulary
        self.mlm_probability = mlm_probability
        self.seed = seed
        # [UNK] is an ordinary token here, as in the reference code: only [PAD], [CLS] and [SEP] are never predicted.
        self.never = torch.tensor([vocabulary.pad, vocabulary.cls, vocabulary.sep])

    def __call__(self, ids: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return corrupted ids and labels (the original id where predicted, IGNORED_LABEL elsewhere), both int64 on CPU.

        Any shape; the same shape. A function of ids, seed and step alone.
        """
        (state,) = np.random.SeedSequence([self.seed, step, 0x3A5C]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state))
        chance = torch.rand(ids.shape, generator=generator)
        predicted = (chance < self.mlm_probability) & ~torch.isin(ids, self.never)
        labels = torch.where(predicted, ids, IGNORED_LABEL)
        fate = torch.rand(ids.shape, generator=generator)
        random = torch.randint(len(self.vocabulary), ids.shape, generator=generator)
        corrupted = torch.where(predicted & (fate < 0.8), self.vocabulary.mask, ids)
        corrupted = torch.where(predicted & (fate >= 0.9), random, corrupted)
        return corrupted, labels


def masked_inputs(batch: Packed, masker: Masker, step: int) -> dict[str, Any]:
    """What `TinyBertForMaskedLM.loss` is called with, for one batch: only predicted rows are queried.

    Corruptions are drawn for tokens, not for rows, so that they are the same in every layout.
    """
    tokens = batch.layout.real_R.nonzero().squeeze(1)
    corrupted, labels = masker(batch.ids_R[tokens], step)
    predicted = labels != IGNORED_LABEL
    return {
        "ids_R": batch.ids_R.index_copy(0, tokens, corrupted),
        "layout": batch.layout,
        "queries": Queries.of(batch.layout, tokens[predicted]),
        "labels_N": labels[predicted],
    }


def next_token_inputs(batch: Packed) -> dict[str, Any]:
    """What `TinyGptForCausalLM.loss` is called with: every token but the last of a sequence predicts the next one.

    The first is predicted from [CLS], the last to be predicted is [SEP].
    """
    layout = batch.layout
    # A token that is not its sequence's first has the one before it in the row before.
    predicted = (layout.real_R & (layout.positions_R > 0)).nonzero().squeeze(1)
    return {
        "ids_R": batch.ids_R,
        "layout": layout,
        "queries": Queries.of(layout, predicted - 1),
        "labels_N": batch.ids_R[predicted],
    }
