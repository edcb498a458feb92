"""Identity: one JSON text for one value, and keys that change with everything that defines a result."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlm.artifacts.fingerprint import canonical_json, file_digest, step_key

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)

STEP: dict[str, Any] = {
    "stage": "pretrain",
    "version": "1",
    "config": {"seed": 0, "learning_rate": 5e-05, "sizes": [0, 2000], "title": "Größe", "share": None},
    "inputs": {"corpus": "ab" * 32, "tokenizer": "cd" * 32},
}


def reversed_dicts(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: reversed_dicts(value[name]) for name in reversed(list(value))}
    return [reversed_dicts(item) for item in value] if isinstance(value, list) else value


@given(TREES)
def test_the_text_does_not_depend_on_the_order_of_fields(tree: Any) -> None:
    assert canonical_json(tree) == canonical_json(reversed_dicts(tree))


@given(TREES)
def test_the_text_is_ascii_json_of_the_same_value(tree: Any) -> None:
    text = canonical_json(tree)
    assert text.isascii()
    assert json.loads(text) == tree


def test_lists_and_tuples_are_the_same() -> None:
    assert canonical_json({"a": (1, (2,))}) == canonical_json({"a": [1, [2]]}) == '{"a":[1,[2]]}'


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (math.nan, r"\$: nan"),
        ({"a": [math.inf]}, r"\$\.a\[0\]: inf"),
        ({"a": {1, 2}}, r"\$\.a: set"),
        (object(), r"\$: object"),
        ({"a": {1: 2}}, r"\$\.a: key 1 "),
        ([b"bytes"], r"\$\[0\]: bytes"),
        (Path("x"), r"\$: "),
    ],
)
def test_a_value_without_one_json_text_raises_and_names_its_place(value: Any, place: str) -> None:
    with pytest.raises(TypeError, match=place):
        canonical_json(value)


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "finetune"},
        {"version": "2"},
        {"config": {**STEP["config"], "seed": 1}},
        {"config": {**STEP["config"], "more": None}},
        {"inputs": {**STEP["inputs"], "corpus": "ef" * 32}},
        {"inputs": {"corpora": "ab" * 32, "tokenizer": "cd" * 32}},
        {"inputs": {"corpus": "cd" * 32, "tokenizer": "ab" * 32}},
        {"inputs": {}},
    ],
)
def test_the_key_changes_with_stage_version_config_and_inputs(change: dict[str, Any]) -> None:
    assert step_key(**{**STEP, **change}) != step_key(**STEP)


def test_the_key_of_a_known_step_never_changes() -> None:
    """If this fails, every artifact that anyone has is made anew: bump a stage's VERSION instead."""
    assert step_key(**STEP) == "53038bd803dbcbc3bd75f1cc3f11e3f6cc427475993b1fc7d1367eeb4674c588"


def test_one_and_true_are_different_but_minus_zero_is_a_number() -> None:
    assert canonical_json({"a": 1}) != canonical_json({"a": True})
    assert canonical_json(-0.0) == "-0.0"


def test_a_files_digest_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert (
        file_digest(tmp_path / "f") == file_digest(str(tmp_path / "f")) == file_digest(io.BytesIO(b"abc")) == expected
    )
