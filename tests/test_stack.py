"""A stack of models trains each of them as it would be trained alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import numbered_vocabulary

from tlm.config import FinetuneConfig, Optimisation, PretrainConfig
from tlm.modeling import TinyBertConfig, TinyBertForMaskedLM, TinyBertForSequenceClassification
from tlm.modeling.variants import variant
from tlm.ragged import Ragged
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


def assert_same(ours: torch.nn.Module, alone: torch.nn.Module) -> None:
    theirs = dict(alone.named_parameters()) | dict(alone.named_buffers())
    for name, tensor in (dict(ours.named_parameters()) | dict(ours.named_buffers())).items():
        if name.endswith("key.bias"):
            continue  # softmax does not see it: its gradient is rounding, which AdamW scales up to whole steps
        torch.testing.assert_close(tensor, theirs[name], atol=5e-5, rtol=5e-4, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("name", ["bert6", "bert1a", "bert1b", "bert1e"])
@pytest.mark.parametrize("max_grad_norm", [None, 0.5])
def test_masked_language_models_in_a_stack_equal_those_trained_alone(name: str, max_grad_norm: float | None) -> None:
    steps, sequences = 9, corpus()  # more than an epoch, whose last batch is short
    config = PretrainConfig(steps=steps, batch_size=BATCH, learning_rate=1e-3, max_grad_norm=max_grad_norm)
    alone = [model_of(name, seed, TinyBertForMaskedLM) for seed in SEEDS]
    for model, seed in zip(alone, SEEDS, strict=True):
        run(model, mlm_data(model, sequences, VOCABULARY, config, max_length=LENGTH, seed=seed), config, steps)
    together = [model_of(name, seed, TinyBertForMaskedLM) for seed in SEEDS]
    stack = Stack(together)
    shared = {"batch_size": BATCH, "mlm_probability": config.mlm_probability, "max_length": LENGTH}
    run(stack, stacked.mlm_data(stack, sequences, VOCABULARY, seeds=SEEDS, **shared), config, steps)
    stack.unstack()
    for ours, theirs in zip(together, alone, strict=True):
        assert_same(ours, theirs)


@pytest.mark.parametrize("name", ["bert6", "bert1b"])
def test_classifiers_in_a_stack_equal_those_trained_alone(name: str) -> None:
    steps, tokens = 8, corpus()
    labels = torch.arange(len(tokens)) % LABELS
    config = FinetuneConfig(epochs=1, batch_size=BATCH, learning_rate=1e-3)
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
    for ours, theirs in zip(together, alone, strict=True):
        assert_same(ours, theirs)


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
