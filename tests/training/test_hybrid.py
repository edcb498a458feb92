"""One decoder, masked and causal: what each sequence is asked, what it can see, and that both ways are learnt."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import mini_study
from hypothesis import given
from hypothesis import strategies as st
from toy import ARCH, BYTES, GPT, LLAMA, VOCABULARY, corpus, pretrained

from tlm.errors import UserError
from tlm.machine.runtime import Runtime
from tlm.modeling.families.base import family_of
from tlm.modeling.packing import Packed, pack
from tlm.planning.preflight import check
from tlm.study.architecture import Architecture
from tlm.study.config import PretrainConfig
from tlm.training.masking import next_token_inputs
from tlm.training.objectives.hybrid import Hybrid, hybrid_inputs, masked_sequences

LENGTH = 12
CONFIG = PretrainConfig(steps=1, mlm_probability=0.4)
HALF = np.array([True, False, True, True, False, False])
DECODERS = pytest.mark.parametrize("arch", [GPT, LLAMA], ids=lambda arch: arch.name)


def batch_of(cost: int = 3) -> Packed:
    return pack(corpus(6), np.arange(6), VOCABULARY, LENGTH, cost)


def asked(batch: Packed, which_B: Any = HALF) -> dict[str, Any]:
    return hybrid_inputs(batch, which_B, VOCABULARY, CONFIG, seed=1, step=2)


@given(st.integers(1, 64), st.floats(0.01, 0.99), st.integers(0, 1_000))
def test_the_share_of_sequences_is_masked_rounded_up_or_down(count: int, share: float, step: int) -> None:
    masked = masked_sequences(count, share, seed=3, step=step)
    assert abs(masked.sum() - count * share) < 1
    assert np.array_equal(masked, masked_sequences(count, share, seed=3, step=step))


def test_every_sequence_is_as_likely_to_be_masked() -> None:
    drawn = np.mean([masked_sequences(5, 0.7, seed=0, step=step) for step in range(2_000)], axis=0)
    np.testing.assert_allclose(drawn, 0.7, atol=0.05)


@pytest.mark.parametrize("cost", [0, 3, 1_000])
def test_masked_tokens_and_all_of_a_causal_sequence_are_predicted_from_the_position_before(cost: int) -> None:
    batch = batch_of(cost)
    inputs = asked(batch)
    rows_N = inputs["queries"].rows_N
    assert torch.equal(inputs["labels_N"], batch.ids_R[rows_N + 1])
    sequence_R = inputs["layout"].sequence_of()
    for number, masked in enumerate(HALF):
        own_R = (sequence_R == number) & batch.layout.real_R
        if masked:
            changed = (inputs["ids_R"] != batch.ids_R)[own_R].nonzero().squeeze(1)
            predicted = rows_N[sequence_R[rows_N] == number] + 1 - own_R.nonzero()[0]
            assert set(changed.tolist()) <= set(predicted.tolist()) < set(range(1, 9))
        else:
            assert torch.equal(inputs["ids_R"][own_R], batch.ids_R[own_R])
            assert (sequence_R[rows_N] == number).sum() == own_R.sum() - 1
    assert Hybrid().predicted_positions(CONFIG, 10) == pytest.approx(15 / 16 * 0.4 * 8 + 9 / 16)


@DECODERS
def test_a_causal_sequence_does_not_see_what_comes_and_a_masked_one_sees_all(arch: Architecture) -> None:
    torch.manual_seed(0)
    family = family_of(arch)
    model: Any = family.language_model(family.configure(arch, VOCABULARY, LENGTH)).eval()
    inputs = asked(batch_of())
    layout, labels_N = inputs["layout"], inputs.pop("labels_N")
    last_B = layout.last_rows()
    cut = {**inputs, "ids_R": inputs["ids_R"].index_fill(0, last_B, 7)}
    with torch.no_grad():
        before, after = (model.logits(**each).log_softmax(1) for each in (inputs, cut))
    masked_N = torch.from_numpy(HALF)[layout.sequence_of()[inputs["queries"].rows_N]]
    own_N = torch.arange(len(labels_N)), labels_N
    assert torch.equal(before[own_N][~masked_N], after[own_N][~masked_N])
    assert (before[own_N][masked_N] != after[own_N][masked_N]).all()


def test_what_a_mask_stands_for_is_not_seen() -> None:
    batch = batch_of()
    inputs = asked(batch)
    hidden_N = inputs["queries"].rows_N + 1
    hidden_N = hidden_N[inputs["ids_R"][hidden_N] == VOCABULARY.mask]
    other = Packed(batch.ids_R.index_fill(0, hidden_N, 39), batch.layout, batch.order_B)
    assert len(hidden_N) > 3 and not torch.equal(other.ids_R, batch.ids_R)
    assert torch.equal(asked(other)["ids_R"], inputs["ids_R"])


def test_held_out_text_is_read_as_by_a_causal_model_and_all_of_it_masked_beside() -> None:
    batch = batch_of()
    inputs = Hybrid().heldout_inputs(batch, VOCABULARY, CONFIG, seed=1, step=2)
    causal, masked = next_token_inputs(batch), asked(batch, np.ones(6, dtype=bool))
    assert set(inputs) == {*causal, *(f"masked_{name}" for name in masked)}
    for name in ("ids_R", "labels_N"):
        assert torch.equal(inputs[name], causal[name]) and torch.equal(inputs[f"masked_{name}"], masked[name])
    assert not any(rectangle.both_ways for rectangle in inputs["layout"].rectangles)


def test_training_teaches_both_ways() -> None:
    hybrid = {"kind": "hybrid", "masked_share": 0.75}
    done = pretrained(arch=GPT, steps=200, learning_rate=1e-2, objective=hybrid, mlm_probability=0.3)
    assert isinstance(done.model, family_of(GPT).language_model)
    curve = done.curve.frame().groupby("name")["value"].apply(list)
    for name in ("heldout_loss", "heldout_masked_loss"):
        assert curve[name][-1] < curve[name][0] and curve[name][-1] < 1.0, name
    # Nine tokens are predicted, of which the first is one of six and the others follow from the one before.
    assert math.log(6) / 9 - 0.05 < done.facts["heldout_loss"] == curve["heldout_loss"][-1]
    assert done.facts["heldout_accuracy"] > 0.8 and curve["heldout_masked_accuracy"][-1] > 0.8


@pytest.mark.parametrize("arch", [ARCH, BYTES], ids=lambda arch: arch.name)
def test_a_family_that_is_no_decoder_of_tokens_is_refused(arch: Architecture) -> None:
    with pytest.raises(UserError, match=f"hybrid does not work with models of kind {arch.kind}.*Leave it out"):
        pretrained(arch=arch, objective="hybrid")


def test_a_tokenizer_without_a_mask_is_refused_before_any_work(
    mini_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpt = {**mini_study().architectures[0].model_dump(), "kind": "decoder"}
    decoder = {"architectures": [gpt], "committees": [], "treatments": []}
    study = mini_study(**decoder, arms={"both": {"pretrain": {"objective": "hybrid"}}})
    monkeypatch.setattr(type(study.tokenizer), "special_tokens", frozenset({"pad", "cls", "sep", "unk"}))
    runtime = Runtime(home=str(tmp_path / "home"), data_root=str(mini_data), device="cpu")
    with pytest.raises(UserError, match=r"tokenizer: kind wordpiece has no \[MASK\], which the study needs"):
        check(study, runtime)
