"""The fused step has autograd's gradients, and drops what it should.

Triton's kernels run where there is a GPU; on a CPU only with TRITON_INTERPRET=1, where each of these takes a minute.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from test_captured import FINETUNING, LENGTH, PRETRAINING, STILL, planned, stepper_of, unmoved, vectors_of
from toy import VOCABULARY, task_of

from tlm.data.ragged import Ragged
from tlm.training import replay
from tlm.training.captured import Engine, Stepper, inputs_of
from tlm.training.replay import Finetuner, in_turn

pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("no GPU", allow_module_level=True)

FUSED = Engine("varlen" if DEVICE == "cuda" else "rectangle", fused=True)


@pytest.fixture(scope="module")
def texts() -> Ragged:
    generator = np.random.default_rng(0)
    return Ragged.from_lists([generator.integers(5, 40, 1 + i % 15) for i in range(120)])


def same_gradients(mine: Stepper, other: Stepper, tolerance: float) -> None:
    for block in mine.flat.blocks:
        own, theirs = (stepper.flat.gradient(block).float() for stepper in (mine, other))
        assert float((own - theirs).norm()) <= tolerance * float(theirs.norm()) + 1e-7, block.names


def test_loss_and_gradients_of_masked_language_modelling_are_those_of_autograd(texts: Ragged) -> None:
    run = planned(texts)
    plain, fused = (stepper_of(run, engine=engine, device=DEVICE) for engine in (Engine(), FUSED))
    for size, given in vectors_of(run)[:2]:
        for stepper in (plain, fused):
            stepper.step(inputs_of(unmoved(given).to(DEVICE), size))
        assert float(fused.losses_T[0]) == pytest.approx(float(plain.losses_T[0]), rel=1e-5)
        same_gradients(fused, plain, 1e-4)


def test_a_step_of_finetuning_ends_at_the_same_weights() -> None:
    tokens, items = task_of()
    steppers = []
    for engine in (Engine(), FUSED):
        tuner = Finetuner(
            tokens, items, VOCABULARY, STILL, FINETUNING, engine, max_length=LENGTH, device=DEVICE, multiple=32
        )
        run = tuner.run(0)
        tuner._initialise(0, None)
        epoch = next(iter(in_turn(run)))
        size = run.sizes[epoch.sizes_T[0]]
        tuner.stepper.step(inputs_of(torch.from_numpy(epoch.vectors[: size.length].copy()).to(DEVICE), size))
        steppers.append(tuner.stepper)
    same_gradients(steppers[1], steppers[0], 1e-4)
    torch.testing.assert_close(steppers[1].flat.weights_P, steppers[0].flat.weights_P, rtol=1e-4, atol=1e-5)


def test_gradients_with_dropout_are_the_slopes_of_the_loss(texts: Ragged) -> None:
    chances = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2, "num_hidden_layers": 2}
    run = planned(texts, PRETRAINING.model_copy(update={"batch_size": 6}))
    stepper = stepper_of(run, STILL.model_copy(update=chances), FUSED, DEVICE)
    stepper.reseed(5)
    size, given = vectors_of(run)[0]
    vector = unmoved(given).to(DEVICE)

    def loss() -> float:
        stepper.step(inputs_of(vector, size))
        return float(stepper.losses_T[0])

    first = loss()
    assert loss() == pytest.approx(first, abs=1e-6)  # the same seed and step: the same elements
    gradient = torch.cat([stepper.flat.gradients_Q, stepper.flat.gradients_rest]).clone()
    weights = stepper.flat.weights_P.clone()
    for block in stepper.flat.blocks:
        if not any(
            part in block.names[0] for part in ("query.weight", "output.dense.weight", "embeddings.LayerNorm.w")
        ):
            continue
        start, end = stepper.flat.span([block])
        along = torch.zeros_like(gradient)
        along[start:end] = gradient[start:end]
        norm = float(along.norm())
        ends = []
        for sign in (1, -1):
            stepper.flat.weights_P.copy_(weights + sign * 1e-2 * along / norm)
            ends.append(loss())
        stepper.flat.weights_P.copy_(weights)
        assert (ends[0] - ends[1]) / 2e-2 == pytest.approx(norm, rel=0.02), block.names
    stepper.reseed(6)
    assert loss() != pytest.approx(first, abs=1e-6)


def test_dropout_keeps_the_share_it_should_and_no_two_steps_or_places_alike() -> None:
    from tlm.modeling import kernels

    def kept(step: int, site: int) -> torch.Tensor:
        ints = [torch.full((1,), number, dtype=torch.int32, device=DEVICE) for number in (7, step)]
        noise = kernels.Noise(ints[0], ints[1], site, 0.1)
        ones, zeros = torch.ones(64, 64, device=DEVICE), torch.zeros(64, 64, device=DEVICE)
        weight, bias = ones[0].contiguous(), zeros[0].contiguous()
        out = kernels.norm(zeros, ones, weight, bias, 1e-12, noise)
        return out.wide_RD > 0  # what is dropped lies below its row's mean

    masks = [kept(step, site) for step, site in ((0, 1), (1, 1), (0, 2))]
    for mask in masks:
        assert float(mask.float().mean()) == pytest.approx(0.9, abs=0.02)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert float((masks[a] == masks[b]).float().mean()) == pytest.approx(0.82, abs=0.03)


@pytest.mark.skipif(DEVICE == "cpu", reason="no GPU")
def test_a_captured_fused_run_ends_where_the_launched_one_ends(texts: Ragged, tmp_path: Path) -> None:
    run = planned(texts, PRETRAINING.model_copy(update={"precision": "bfloat16"}))
    ends = []
    for engine in (Engine("varlen"), Engine("varlen", captured=True, fused=True, overlapped=True)):
        done = replay.pretrain(stepper_of(run, engine=engine, device="cuda"), run, texts, in_turn(run))
        ends.append(done.facts["heldout_loss"])
    assert ends[0] == pytest.approx(ends[1], rel=1e-2)
