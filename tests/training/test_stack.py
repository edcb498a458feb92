"""A stack of models trains each of them as it would be trained alone."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from helpers import numbered_vocabulary

from tlm.data.ragged import Ragged
from tlm.modeling import TinyBertConfig, TinyBertForMaskedLM, TinyBertForSequenceClassification
from tlm.study.architecture import variant
from tlm.study.config import FinetuneConfig, Optimisation, PretrainConfig
from tlm.training import stack as stacked
from tlm.training.batching import Order, packer
from tlm.training.loop import Data, train
from tlm.training.optimisation import Curve
from tlm.training.pretrain import mlm_data
from tlm.training.stack import Stack

VOCABULARY = numbered_vocabulary(40)
SEEDS = (0, 1, 5)
LENGTH, BATCH, LABELS = 14, 6, 3


def model_of(name: str, seed: int, head: Any, **fields: Any) -> Any:
    torch.manual_seed(seed)
    arch = variant(
        name,
        head_size=4,
        conv_channels=2 if name not in ("bert6", "bert1a") else None,
        **{"num_attention_heads": 2, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, **fields},
    )
    sizes = {"pad_token_id": VOCABULARY.pad, "cls_token_id": VOCABULARY.cls, "max_position_embeddings": LENGTH}
    model = head(TinyBertConfig.from_architecture(arch, vocab_size=len(VOCABULARY), num_labels=LABELS, **sizes))
    with torch.no_grad():  # far from symmetric: at BERT's own 0.02 Adam's first steps follow the rounding
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def corpus(size: int = 40) -> Ragged:
    generator = np.random.default_rng(3)
    return Ragged.from_lists([generator.integers(5, 40, generator.integers(1, 18)) for _ in range(size)])


def run(model: Any, data: Data, config: Optimisation, steps: int) -> None:
    train(model, data, config, steps=steps, device="cpu", curve=Curve(), after_step=lambda *_: None)


@pytest.fixture(autouse=True)
def smooth_adamw(monkeypatch: pytest.MonkeyPatch) -> None:
    """At its usual eps AdamW makes a whole step of a gradient's sign, even where the gradient is rounding alone."""
    monkeypatch.setattr(torch.optim, "AdamW", partial(torch.optim.AdamW, eps=1e-2))


def named(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


def assert_same(ours: torch.nn.Module, alone: torch.nn.Module, start: torch.nn.Module) -> None:
    """What was learned differs by less than a thousandth of it."""
    theirs, before = named(alone), named(start)
    for name, tensor in named(ours).items():
        if name.endswith("key.bias"):
            continue  # softmax does not see it: its gradient is rounding alone
        learned = (theirs[name] - before[name]).float().norm()
        assert (tensor - theirs[name]).float().norm() <= 1e-3 * learned + 1e-9, name


@pytest.mark.parametrize("name", ["bert6", "bert1a", "bert1b", "bert1e"])
def test_every_members_loss_and_gradients_are_its_own(name: str) -> None:
    sequences = corpus()
    config = PretrainConfig(steps=1, batch_size=BATCH)
    models = [model_of(name, seed, TinyBertForMaskedLM).train() for seed in SEEDS]
    stack = Stack([model_of(name, seed, TinyBertForMaskedLM) for seed in SEEDS]).train()
    shared = {"batch_size": BATCH, "mlm_probability": config.mlm_probability, "max_length": LENGTH}
    data = stacked.mlm_data(stack, sequences, VOCABULARY, seeds=SEEDS, **shared)
    stack.loss(**data.inputs(1, data.order.batch(0)[1])).backward()
    gradients = {name: parameter.grad for name, parameter in zip(stack.names, stack.stacked, strict=True)}
    for index, (model, seed) in enumerate(zip(models, SEEDS, strict=True)):
        own = mlm_data(model, sequences, VOCABULARY, config, max_length=LENGTH, seed=seed)
        loss = model.loss(**own.inputs(1, own.order.batch(0)[1]))
        loss.backward()
        torch.testing.assert_close(stack.losses_M[index], loss.detach())
        for key, parameter in model.named_parameters():
            found = gradients[f"model.{key}"]
            if parameter.grad is not None and not key.endswith("key.bias"):
                assert found is not None
                assert (found[index] - parameter.grad).norm() <= 1e-4 * parameter.grad.norm(), key


@pytest.mark.parametrize("name", ["bert6", "bert1a", "bert1b", "bert1e"])
@pytest.mark.parametrize("max_grad_norm", [None, 0.5])
def test_masked_language_models_in_a_stack_equal_those_trained_alone(name: str, max_grad_norm: float | None) -> None:
    steps, sequences = 9, corpus()  # more than an epoch, whose last batch is short
    config = PretrainConfig(
        steps=steps, batch_size=BATCH, learning_rate=1e-3, max_grad_norm=max_grad_norm, precision="float32"
    )
    alone = [model_of(name, seed, TinyBertForMaskedLM) for seed in SEEDS]
    for model, seed in zip(alone, SEEDS, strict=True):
        run(model, mlm_data(model, sequences, VOCABULARY, config, max_length=LENGTH, seed=seed), config, steps)
    together = [model_of(name, seed, TinyBertForMaskedLM) for seed in SEEDS]
    stack = Stack(together)
    shared = {"batch_size": BATCH, "mlm_probability": config.mlm_probability, "max_length": LENGTH}
    run(stack, stacked.mlm_data(stack, sequences, VOCABULARY, seeds=SEEDS, **shared), config, steps)
    stack.unstack()
    for ours, theirs, seed in zip(together, alone, SEEDS, strict=True):
        assert_same(ours, theirs, model_of(name, seed, TinyBertForMaskedLM))


@pytest.mark.parametrize("name", ["bert6", "bert1b"])
def test_classifiers_in_a_stack_equal_those_trained_alone(name: str) -> None:
    steps, tokens = 8, corpus()
    labels = torch.arange(len(tokens)) % LABELS
    config = FinetuneConfig(epochs=1, batch_size=BATCH, learning_rate=1e-3, precision="float32")
    alone = [model_of(name, seed, TinyBertForSequenceClassification) for seed in SEEDS]
    for model, seed in zip(alone, SEEDS, strict=True):
        pack = packer(model.config, "cpu")

        def inputs(step: int, rows: Any, pack: Any = pack) -> Any:
            batch = pack(tokens, rows, VOCABULARY, LENGTH)
            return {"ids_R": batch.ids_R, "layout": batch.layout, "labels_B": labels[rows[batch.order_B]]}

        run(model, Data(Order(len(tokens), BATCH, seed), inputs), config, steps)
    together = [model_of(name, seed, TinyBertForSequenceClassification) for seed in SEEDS]
    stack = Stack(together)
    data = stacked.classification_data(
        stack, tokens, labels, VOCABULARY, seeds=SEEDS, batch_size=BATCH, max_length=LENGTH
    )
    run(stack, data, config, steps)
    stack.unstack()
    for ours, theirs, seed in zip(together, alone, SEEDS, strict=True):
        assert_same(ours, theirs, model_of(name, seed, TinyBertForSequenceClassification))


def test_dropout_is_drawn_for_each_member() -> None:
    """Two members with the same weights and the same batch differ in nothing but dropout."""
    models = [model_of("bert6", 0, TinyBertForMaskedLM, hidden_dropout_prob=0.3) for _ in range(2)]
    stack = Stack(models).train()
    data = stacked.mlm_data(
        stack, corpus(), VOCABULARY, seeds=(7, 7), batch_size=BATCH, mlm_probability=0.3, max_length=LENGTH
    )
    inputs = data.inputs(1, data.order.batch(0)[1])
    stack.loss(**inputs)
    assert stack.losses_M[0] != stack.losses_M[1]
    stack.eval().loss(**inputs)
    torch.testing.assert_close(stack.losses_M[0], stack.losses_M[1])


def test_models_of_different_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="same configuration"):
        Stack([model_of(name, 0, TinyBertForMaskedLM) for name in ("bert6", "bert1a")])
    with pytest.raises(ValueError, match="at least one"):
        Stack([])
