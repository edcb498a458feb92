"""Models read what the tokenizer gives, and nothing is asked of bytes that is about words."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import mini_study

from tlm.errors import UserError

MODEL = {"variant": "byte-micro"}
BYTES: dict[str, Any] = {
    "tokenizer": {"kind": "bytes"},
    "architectures": [MODEL],
    "treatments": [],
    "treatment_architectures": None,
    "committees": [],
}


def test_a_study_of_bytes_needs_nothing_else() -> None:
    assert mini_study(**BYTES).tokenizer.units == "byte"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"tokenizer": {"kind": "wordpiece"}},
            r"\(byte-micro\) read bytes, and tokenizer: wordpiece gives tokens of a",
        ),
        (
            {"architectures": [{"variant": "micro"}]},
            r"\(micro\) read tokens of a vocabulary, and tokenizer: bytes gives",
        ),
        ({"tokenizer": {"kind": "bytes", "patch_bytes": 12}}, "byte.patch_bytes=16, and tokenizer.patch_bytes=12"),
        ({"tokenizer": {"kind": "bytes", "patch_bytes": 1}}, "patch_bytes"),
        ({"tokenizer": {"kind": "bytes", "vocab_size": 8_192}}, "vocab_size"),
        ({"corpus__sampler": "coverage"}, "corpus.sampler: coverage is about words"),
        ({"svd_arm": True}, "svd_arm: true is about words"),
        ({"pretrain__embedding_init": "ppmi_svd"}, "pretrain.embedding_init: ppmi_svd is about words"),
        ({"treatments": [{"kind": "shuffled", "ws": 120, "scope": "corpus"}]}, "treatments: shuffled is about words"),
        (
            {"treatments": [{"kind": "missing_tokens", "task": "topics", "ws": 120, "count": 3}]},
            "treatments: missing_tokens is about words",
        ),
        ({"pretrain__output_bias": "log_unigram"}, "pretrain.output_bias"),
    ],
)
def test_what_bytes_cannot_be_asked_is_refused_with_its_field(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        mini_study(**{**BYTES, **changes})


def test_bytes_are_not_masked() -> None:
    with pytest.raises(UserError, match="masked does not work with models of kind bytes"):
        mini_study(**BYTES, pretrain__objective={"kind": "masked"})
