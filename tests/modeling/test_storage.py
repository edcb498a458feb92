"""How compressed weights stand in a file: what int8 may cost a weight, that sparse costs nothing, and how many bytes."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tiny_models import batch, build, small
from transformers import AutoModelForSequenceClassification

from tlm.errors import UserError
from tlm.modeling import TinyBertForMaskedLM, TinyBertForSequenceClassification, TinyGptForCausalLM
from tlm.modeling.interchange import load_strict, save
from tlm.modeling.storage import as_int8, as_sparse, restored

LARGEST = torch.finfo(torch.float32).max
MODELS: list[tuple[Any, str]] = [
    (TinyBertForSequenceClassification, "bert1b"),
    (TinyBertForMaskedLM, "bert1"),
    (TinyGptForCausalLM, "gpt1"),
]

matrices = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=4, max_side=4),
    elements=st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False) | st.just(0.0),
)


@settings(max_examples=40)
@given(matrices)
def test_int8_is_off_by_half_a_scale_of_its_row_at_most(array: np.ndarray) -> None:
    weight = torch.from_numpy(array)
    stored = as_int8({"w": weight})
    assert {name: part.dtype for name, part in stored.items()} == {"w.int8": torch.int8, "w.scale": torch.float32}
    off = (restored(stored)["w"] - weight).abs().flatten(1)
    assert (off <= stored["w.scale"][:, None] * 0.501).all()


@settings(max_examples=40)
@given(matrices, st.integers(0, 10))
def test_sparse_is_the_same_to_the_bit_and_never_larger(array: np.ndarray, rarely: int) -> None:
    weight = torch.from_numpy(array)
    weight[torch.rand(weight.shape, generator=torch.Generator().manual_seed(rarely)) * 10 < rarely] = 0.0
    stored = as_sparse({"w": weight})
    assert torch.equal(restored(stored)["w"], weight)
    assert sum(part.nbytes for part in stored.values()) <= weight.nbytes


def test_int8_at_the_extremes() -> None:
    weight = torch.tensor([[0.0, 0.0], [LARGEST, 1.0], [-LARGEST, LARGEST], [2e-38, -1e-38]])
    found = restored(as_int8({"w": weight}))["w"]
    assert found.isfinite().all()
    assert torch.equal(found[0], weight[0]), "a row of zeros stays one"
    torch.testing.assert_close(found[1:3, 0], weight[1:3, 0])
    assert found[1, 1] == 0.0, "beside so large a weight there is no room for it"
    torch.testing.assert_close(found[3], weight[3], rtol=0.01, atol=0)


@pytest.mark.parametrize("storage", [as_int8, as_sparse])
def test_vectors_and_counts_and_names_that_look_like_parts_stay_as_they_are(storage: Any) -> None:
    plain = {"bias": torch.randn(3), "batches": torch.tensor(7), "a.scale": torch.ones(2), "b.bits": torch.ones(2)}
    for found in (storage(plain), restored(plain)):
        assert found.keys() == plain.keys() and all(torch.equal(found[name], plain[name]) for name in plain)


@pytest.mark.parametrize(("head", "name"), MODELS)
def test_the_bytes_of_a_file_are_those_of_its_numbers_and_its_header(head: Any, name: str, tmp_path: Path) -> None:
    model = build(head, small(name))
    save(model, tmp_path, as_int8)
    parameters = list(model.parameters())  # what is tied is there once
    counts = sum(buffer.nbytes for buffer in model.buffers())
    rows = sum(len(each) for each in parameters if each.ndim > 1)
    bytes_ = sum(each.numel() * (1 if each.ndim > 1 else 4) for each in parameters) + 4 * rows + counts
    file = (tmp_path / "model.safetensors").read_bytes()
    assert len(file) == 8 + struct.unpack("<Q", file[:8])[0] + bytes_


@pytest.mark.parametrize("storage", [as_int8, as_sparse])
@pytest.mark.parametrize(("head", "name"), MODELS)
def test_a_saved_model_is_read_again_by_us_and_by_nobody_else(
    head: Any, name: str, storage: Any, tmp_path: Path
) -> None:
    model = build(head, small(name)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter[parameter.abs() < 0.02] = 0.0
    save(model, tmp_path, storage)
    again = load_strict(head, tmp_path)
    expected = restored(storage(model.state_dict()))
    assert all(torch.equal(tensor, expected[key]) for key, tensor in again.state_dict().items())
    torch.testing.assert_close(again(*batch()).logits, model(*batch()).logits, rtol=0, atol=0.05)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "tlm_compressed"
    with pytest.raises(ValueError, match="tlm_compressed"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path)
    other = TinyGptForCausalLM if name != "gpt1" else TinyBertForMaskedLM
    with pytest.raises(UserError, match="a model of type 'tlm_"):
        load_strict(other, tmp_path)
