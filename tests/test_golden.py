"""Identity is kept: every key and every output of today is that of yesterday."""

from __future__ import annotations

import json

import golden
import pytest
from helpers import Mini


def test_every_step_of_every_named_study_keeps_its_key_labels_and_inputs() -> None:
    expected = golden.KEYS.read_text(encoding="utf-8").splitlines()
    assert golden.keys().splitlines() == expected


def test_what_is_made_without_training_has_the_same_bytes_on_every_machine(mini: Mini) -> None:
    expected = json.loads(golden.OUTPUTS.read_text(encoding="utf-8"))["data"]
    assert golden.by_machine(golden.outputs(mini), trained=False) == expected


def test_what_is_trained_has_the_same_bytes_on_the_same_processor(mini: Mini) -> None:
    known = json.loads(golden.OUTPUTS.read_text(encoding="utf-8"))["trained"]
    if golden.machine() not in known:
        pytest.skip(f"no digests are known for {golden.machine()}; there are for {', '.join(known)}")
    assert golden.by_machine(golden.outputs(mini), trained=True) == known[golden.machine()]
