"""Log likelihoods of options: what the definition says, text by text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import numbered_vocabulary

from tlm.data.ragged import Ragged
from tlm.evaluation import likelihood
from tlm.evaluation.likelihood import log_likelihoods
from tlm.study.architecture import Architecture
from tlm.training.pretrain import untrained

VOCABULARY = numbered_vocabulary(40)
SMALL: dict[str, Any] = {
    "name": "toy",
    "num_hidden_layers": 2,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
CONV: dict[str, Any] = {"conv_kernel_sizes": ((3, 3),), "conv_channels": 2}
KINDS: dict[str, dict[str, Any]] = {
    "decoder": {"kind": "decoder"},
    "encoder": {},
    "conv": CONV,
    "conv over padding": {**CONV, "conv_over_padding": True},
}
LENGTHS = (1, 6, 9, 6, 3, 9, 6, 18)
GENERATOR = np.random.default_rng(0)
TEXTS = [GENERATOR.integers(5, 40, length).tolist() for length in LENGTHS]
STARTS = np.array([*GENERATOR.integers(LENGTHS), 0, 0, 0])
TEXTS += [TEXTS[1], [], TEXTS[2]]
STARTS[8] = STARTS[1]


def model_of(kind: str) -> Any:
    model = untrained(Architecture(**SMALL, **KINDS[kind]), VOCABULARY, max_length=20, seed=1)
    with torch.no_grad():  # an initialisation is so small that every token is about as likely
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


@torch.inference_mode()
def by_definition(model: Any, text: list[int], start: int) -> float:
    """One token at a time, with transformers' interface."""
    total = 0.0
    for place in range(start + 1, len(text) + 1):
        ids = torch.tensor([[VOCABULARY.cls, *text, VOCABULARY.sep]])
        token = int(ids[0, place])
        if model.config.kind == "decoder":
            logits = model(input_ids=ids[:, :place]).logits[0, -1]
        else:
            ids[0, place] = VOCABULARY.mask
            logits = model(input_ids=ids).logits[0, place]
        total += float(torch.log_softmax(logits, dim=-1)[token])
    return total


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_as_defined_in_batches_of_any_size(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(kind)
    expected = [by_definition(model, *pair) if pair[0] else np.nan for pair in zip(TEXTS, STARTS.tolist(), strict=True)]
    texts = Ragged.from_lists(TEXTS)
    for logits, rows in ((2**24, 8_192), (1, 8_192), (2**24, 24)):
        monkeypatch.setitem(likelihood.LOGITS_AT_ONCE, "cpu", logits)
        monkeypatch.setattr(likelihood, "ROWS_AT_ONCE", rows)
        found = log_likelihoods(model, texts, STARTS, VOCABULARY, max_length=20)
        assert found == pytest.approx(np.array(expected), abs=1e-4, nan_ok=True)
        assert found[1] == found[8]  # to the last bit: equal texts must tie
    assert not model.training


def test_a_text_that_does_not_fit_is_refused_and_not_cut() -> None:
    texts = Ragged.from_lists([list(range(5, 24))])
    with pytest.raises(ValueError, match="must fit max_length=20"):
        log_likelihoods(model_of("decoder"), texts, np.array([0]), VOCABULARY, max_length=20)
