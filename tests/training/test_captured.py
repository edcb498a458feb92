"""Captured training: static shapes compute what the ordinary loop computes, step by step and run by run.

On a CPU steps run uncaptured; what is captured is compared with them where there is a GPU.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from toy import ARCH, CONV, GPT, VOCABULARY, task_of

from tlm.data.ragged import Ragged
from tlm.study.architecture import Architecture
from tlm.study.config import FinetuneConfig, PretrainConfig
from tlm.training import replay
from tlm.training.captured import Engine, Stepper, inputs_of
from tlm.training.finetune import finetune
from tlm.training.flat import adamw, fused_adamw
from tlm.training.masking import Masker
from tlm.training.prepacked import (
    Batch,
    Run,
    Scalars,
    Size,
    fits,
    language_batch,
    plan_sizes,
    prepare_epoch,
    vector,
)
from tlm.training.pretrain import objective_of, pretrain, pretraining_batches
from tlm.training.replay import Finetuner, in_turn, language_stepper, plan_run

LENGTH = 12
STILL = ARCH.model_copy(
    update={"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "num_hidden_layers": 3}
)
PRETRAINING = PretrainConfig(steps=20, batch_size=16, learning_rate=5e-3, precision="float32")
FINETUNING = FinetuneConfig(epochs=4, batch_size=8, learning_rate=5e-3, precision="float32")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture(scope="module")
def texts() -> Ragged:
    """Of 1 to 15 tokens, of which 10 are kept: batches differ in their rows, some sequences have no masked position."""
    generator = np.random.default_rng(0)
    return Ragged.from_lists([generator.integers(5, 40, 1 + i % 15) for i in range(120)])


def planned(texts: Ragged, config: PretrainConfig = PRETRAINING, seed: int = 3) -> Run:
    steps = replay.pretraining_steps(texts, config)
    return plan_run(texts, VOCABULARY, config, max_length=LENGTH, seed=seed, steps=steps, multiple=32)


def stepper_of(run: Run, arch: Architecture = STILL, engine: Engine = Engine(), device: str = "cpu") -> Stepper:
    config = run.config
    assert isinstance(config, PretrainConfig)
    return language_stepper(
        VOCABULARY, arch, config, engine, max_length=LENGTH, seed=run.seed, steps=run.steps, device=device
    )


def vectors_of(run: Run, epoch: int = 0) -> list[tuple[Size, torch.Tensor]]:
    prepared = prepare_epoch(run, epoch)
    ends = np.cumsum([0, *(run.sizes[index].length for index in prepared.sizes_T)])
    parts = [torch.from_numpy(prepared.vectors[start:end].copy()) for start, end in pairwise(ends)]
    return [(run.sizes[index], part) for index, part in zip(prepared.sizes_T, parts, strict=True)]


def unmoved(vector: torch.Tensor) -> torch.Tensor:
    """The same batch at a learning rate of 0."""
    Scalars().write(vector.numpy())
    return vector


def gradient_of(stepper: Stepper, name: str) -> torch.Tensor:
    for block in stepper.flat.blocks:
        if name in block.names:
            own = dict(stepper.model.named_parameters())
            start = sum(own[n].numel() for n in block.names[: block.names.index(name)])
            flat = stepper.flat.gradient(block).flatten()[start : start + own[name].numel()]
            return flat.view(own[name].shape)
    raise KeyError(name)


# --- a step ---


def test_loss_and_every_gradient_of_masked_language_modelling_are_those_of_the_ordinary_batch(texts: Ragged) -> None:
    run = planned(texts)
    stepper = stepper_of(run)
    model = stepper_of(run).model
    objective = objective_of(STILL, PRETRAINING)
    data = pretraining_batches(objective, model, texts, VOCABULARY, PRETRAINING, max_length=LENGTH, seed=run.seed)
    for step, (size, given) in enumerate(vectors_of(run)):
        model.zero_grad()
        loss = model.loss(**data.inputs(step + 1, data.order.batch(step)[1]))
        loss.backward()
        stepper.step(inputs_of(unmoved(given), size))
        assert float(stepper.losses_T[0]) == pytest.approx(loss.item(), rel=1e-5)
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(gradient_of(stepper, name), parameter.grad, rtol=1e-5, atol=1e-6)


def test_padding_changes_nothing(texts: Ragged) -> None:
    run = planned(texts)
    items = run.order.batch(0)[1]
    batch = language_batch(texts, items, VOCABULARY, LENGTH, Masker(VOCABULARY, 0.15, 3), 1)
    found = []
    for rows, queries, sequences in ((160, 64, 20), (224, 80, 30), (161, 61, 23)):
        size = Size(rows, queries, sequences)
        assert fits(size, batch, LENGTH)
        stepper = stepper_of(run)
        stepper.step(inputs_of(torch.from_numpy(vector(batch, size, Scalars(), VOCABULARY.pad)), size))
        found.append((stepper.losses_T[0].clone(), stepper.flat.gradients_Q, stepper.flat.gradients_rest))
    for other in found[1:]:
        for mine, theirs in zip(found[0], other, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)


def test_a_batch_of_nothing_moves_nothing(texts: Ragged) -> None:
    run = planned(texts)
    stepper = stepper_of(run)
    before = stepper.flat.weights_P.clone()
    for size in run.sizes:
        stepper.step(inputs_of(torch.from_numpy(vector(Batch.empty(), size, Scalars(), VOCABULARY.pad)), size))
    assert torch.equal(before, stepper.flat.weights_P) and not stepper.flat.second_P.any()


# --- runs ---


@pytest.mark.parametrize("changes", [{}, {"max_grad_norm": 0.05}, {"warmup_share": 0.3, "schedule": "epoch"}])
def test_a_pretraining_ends_where_the_ordinary_one_ends(texts: Ragged, changes: dict[str, object]) -> None:
    config = PRETRAINING.model_copy(update=changes)
    ordinary = pretrain(texts, texts, VOCABULARY, STILL, config, max_length=LENGTH, seed=3)
    run = planned(texts, config)
    mine = replay.pretrain(stepper_of(run), run, texts, in_turn(run))
    assert mine.facts.keys() == ordinary.facts.keys()
    assert mine.facts == pytest.approx(ordinary.facts, rel=1e-4)
    same_curve(mine.curve.frame(), ordinary.curve.frame())
    for name, tensor in ordinary.model.state_dict().items():
        torch.testing.assert_close(mine.model.state_dict()[name], tensor, rtol=1e-3, atol=2e-5)


def test_finetunings_from_scratch_and_from_a_pretrained_model_end_where_the_ordinary_ones_end(tmp_path, texts) -> None:  # type: ignore[no-untyped-def]
    from tlm.modeling.interchange import save

    save(pretrain(texts, texts, VOCABULARY, STILL, PRETRAINING, max_length=LENGTH, seed=3).model, tmp_path)
    tokens, items = task_of()
    tuner = Finetuner(
        tokens, items, VOCABULARY, STILL, FINETUNING, Engine(), max_length=LENGTH, device="cpu", multiple=32
    )
    for seed, start in ((0, None), (1, tmp_path), (2, None)):  # one after another, by the same captured steps
        theirs: list[pd.DataFrame] = []
        ordinary = finetune(
            tokens,
            items,
            VOCABULARY,
            STILL,
            FINETUNING,
            max_length=LENGTH,
            seed=seed,
            sink=theirs.append,
            pretrained=start,
        )
        run, own = tuner.run(seed), []
        mine = replay.finished(tuner.finetune(run, in_turn(run), own.append, pretrained=start))
        assert mine.facts == ordinary.facts
        same_curve(mine.curve.frame(), ordinary.curve.frame())
        pairs = [pd.concat(pieces).sort_values("row") for pieces in (own, theirs)]
        np.testing.assert_allclose(np.stack(pairs[0]["logits"]), np.stack(pairs[1]["logits"]), atol=1e-4)
        assert pairs[0].drop(columns="logits").equals(pairs[1].drop(columns="logits"))


def same_curve(mine: pd.DataFrame, other: pd.DataFrame) -> None:
    both = mine.merge(other, on=["step", "epoch", "name"], how="outer", suffixes=("", "_other"))
    assert len(both) == len(mine) == len(other)
    np.testing.assert_allclose(both["value"], both["value_other"], rtol=1e-3, atol=1e-5)


def test_dropout_draws_anew_in_every_step_and_follows_the_seed(texts: Ragged) -> None:
    run = planned(texts)
    size, given = vectors_of(run)[0]
    stepper = stepper_of(run, ARCH)
    losses = []
    for seed in (0, None, 0):
        if seed is not None:
            torch.manual_seed(seed)
        stepper.step(inputs_of(unmoved(given), size))
        losses.append(float(stepper.losses_T[0]))
    assert losses[0] == losses[2] != losses[1]


def test_a_loss_that_is_not_finite_is_an_error_that_names_its_step(texts: Ragged) -> None:
    run = planned(texts, PRETRAINING.model_copy(update={"learning_rate": 1e30}))
    with pytest.raises(replay.NonFiniteLoss, match=r"loss is (nan|inf) at step \d+ of 20"):
        replay.pretrain(stepper_of(run), run, texts, in_turn(run))


def test_a_run_that_would_not_end_in_time_is_given_up(texts: Ragged) -> None:
    run = planned(texts)
    with pytest.raises(replay.OutOfTime, match="20 steps would take"):
        replay.pretrain(stepper_of(run), run, texts, in_turn(run), deadline=0.0)


@pytest.mark.parametrize("arch", [CONV, GPT])
def test_what_has_no_captured_step_is_refused(texts: Ragged, arch: Architecture) -> None:
    with pytest.raises(ValueError, match="captured"):
        stepper_of(planned(texts), arch)


@pytest.mark.parametrize(
    "lever",
    [
        {"packing": True},
        {"embedding_init": "ppmi_svd"},
        {"output_bias": "log_unigram"},
        {"dropout": 0.0},
        {"dropout_schedule": "early"},
        {"optimizer": "muon"},
        {"optimizer": {"kind": "adamw", "betas": (0.9, 0.98)}},
    ],
)
def test_levers_that_captured_steps_do_not_know_are_refused(texts: Ragged, lever: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="captured"):
        stepper_of(planned(texts, PretrainConfig(**{**PRETRAINING.model_dump(), **lever})))


@pytest.mark.parametrize("option", [{"norm_position": "pre"}, {"norm": "rms_norm"}, {"bias": False}])
def test_encoders_that_captured_steps_do_not_compute_are_refused(texts: Ragged, option: dict[str, Any]) -> None:
    arch = Architecture(**{**STILL.model_dump(), "options": option})
    with pytest.raises(ValueError, match="captured"):
        stepper_of(planned(texts), arch)


# --- sizes and vectors ---


def test_every_batch_of_a_run_fits_one_of_its_sizes_with_few_rows_added() -> None:
    lengths = np.minimum(np.random.default_rng(1).geometric(0.01, 3_000) + 20, 126)
    texts = Ragged.from_lists([[5] * length for length in lengths])
    config = PretrainConfig(epochs=2, batch_size=32)
    run = plan_run(texts, VOCABULARY, config, max_length=128, seed=0, steps=2 * 94)
    assert len(run.sizes) <= 10
    used = [run.sizes[i].rows for epoch in in_turn(run) for i in epoch.sizes_T]
    real = 2 * (lengths + 2).sum()
    assert real < sum(used) < 1.06 * real


def test_more_rows_than_fifteen_bits_are_refused() -> None:
    size = Size(1 << 15 | 1, 400, 400)
    with pytest.raises(ValueError, match="too many"):
        vector(Batch.empty(), size, Scalars(), 0)


def test_sizes_of_a_task_have_one_query_for_each_sequence() -> None:
    rows_T, items_T = np.array([300, 310, 280, 100]), np.array([8, 8, 8, 3])
    sizes = plan_sizes(rows_T, items_T, max_length=64, mlm_probability=None)
    assert all(size.queries == size.sequences for size in sizes) and sizes[-1].rows >= 310


# --- AdamW ---


@pytest.mark.parametrize("fused", [False, True])
def test_adamw_on_flat_tensors_is_torchs(fused: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(200, generator=generator)
    theirs = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.AdamW([theirs], lr=1e-2, weight_decay=0.1)
    mine, first, second, copy = start.clone(), torch.zeros(200), torch.zeros(200), torch.zeros(200)
    config = PRETRAINING.model_copy(update={"learning_rate": 1e-2, "weight_decay": 0.1, "schedule": "epoch"})
    for step in range(5):
        gradient = torch.randn(200, generator=generator)
        theirs.grad = gradient.clone()
        optimizer.step()
        scalars = Scalars.of(config, step, 5, 5)  # one epoch, so that the rate is the same in every step
        numbers = {name: torch.tensor(float(value)) for name, value in vars(scalars).items()}
        if fused:
            fused_adamw(mine, first, second, gradient, copy, numbers["count"], numbers["rate"], 0.1)
        else:
            names = ("decay", "step_size", "variance_scale")
            adamw(mine, first, second, gradient, copy, *(numbers[name] for name in names))
        torch.testing.assert_close(mine, theirs.detach(), rtol=1e-5, atol=1e-6)
    assert torch.equal(copy, mine)


# --- on a GPU ---


@needs_gpu
@pytest.mark.parametrize("engine", [Engine(captured=True), Engine("varlen", captured=True, overlapped=True)])
def test_captured_steps_are_the_launched_ones(texts: Ragged, engine: Engine) -> None:
    config = PRETRAINING.model_copy(update={"precision": "bfloat16"})
    run = planned(texts, config)
    ends = []
    for each in (replace(engine, captured=False, overlapped=False), engine):
        done = replay.pretrain(stepper_of(run, engine=each, device="cuda"), run, texts, in_turn(run))
        ends.append(done.facts["heldout_loss"])
    assert ends[0] == pytest.approx(ends[1], rel=1e-2)


@needs_gpu
def test_a_replay_draws_dropout_anew(texts: Ragged) -> None:
    run = planned(texts)
    stepper = stepper_of(run, ARCH, Engine(captured=True), "cuda")
    replay.capture_run(stepper, run)
    size, given = vectors_of(run)[0]
    losses = []
    for _ in range(2):
        stepper.launch(size, unmoved(given).cuda())
        losses.append(float(stepper.losses_T[0]))
    assert losses[0] != losses[1]
