"""What a model costs, from its shape alone: parameters and floating point operations. Imports no torch.

`shape` is an `Architecture` or a model's configuration; what is counted is in its family (`tlm.modeling.families`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from tlm.modeling.families.base import ParameterCounts, Shape, family_of
from tlm.study.architecture import Architecture
from tlm.study.config import FinetuneConfig, PretrainConfig

TRAINING = 3
"""How many forward passes a training step costs: the backward pass has two products for each of the forward pass."""


def count_parameters(model: Any) -> int:
    """The trainable parameters of a torch module; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def expected_parameters(
    shape: Shape, *, vocab_size: int, max_position_embeddings: int, num_labels: int | None = None
) -> int:
    """The parameters of the classifier with `num_labels`, or without it of the language model."""
    return family_of(shape).parameters(
        shape, vocab_size=vocab_size, max_position_embeddings=max_position_embeddings, num_labels=num_labels
    )


def parameter_counts(shape: Shape, *, vocab_size: int, max_position_embeddings: int) -> ParameterCounts:
    """What of a language model's parameters is stored, what of it is embeddings and head, and what a token uses."""
    return family_of(shape).parameter_counts(
        shape, vocab_size=vocab_size, max_position_embeddings=max_position_embeddings
    )


def claims(architecture: Architecture) -> Iterator[str]:
    """What its family says of an architecture's parameters beside the numbers, if anything."""
    if claim := family_of(architecture).claim(architecture):
        yield claim


def classifier_flops(shape: Shape, seq_len: int, num_labels: int) -> int:
    """Floating point operations (two for each multiply-add) of a classifier's forward pass over one sequence, as
    implemented. Matrix products and convolutions only; a training step is about three times as much.
    """
    return family_of(shape).classifier_flops(shape, seq_len, num_labels)


def language_model_flops(shape: Shape, seq_len: int, predicted: int, vocab_size: int) -> int:
    """The same of a language model, of which so many positions of the sequence are predicted."""
    return family_of(shape).language_model_flops(shape, seq_len, predicted, vocab_size)


def sequential_depth(shape: Shape) -> int:
    """Matrix products and convolutions of a classifier that have to wait for each other."""
    return family_of(shape).sequential_depth(shape)


def pretraining_flops(shape: Shape, config: PretrainConfig, length: int, vocab_size: int) -> float:
    """Operations of the forward pass of a language model over a sequence of `length` tokens in pre-training.

    The objective says how many of its positions are predicted, and of what steps go without only the expectation is
    counted. What a teacher or generator of its own computes is not.
    """
    family = family_of(shape)
    predicted = config.objective_for(family).predicted_positions(config, length)

    def whole(own: Shape) -> float:
        return between(lambda count: family.language_model_flops(own, length, count, vocab_size), predicted)

    if not config.layer_drop:
        return whole(shape)
    assert isinstance(shape, Architecture)
    layers = shape.num_hidden_layers
    through = [whole(shape.model_copy(update={"num_hidden_layers": count})) for count in range(1, layers + 1)]
    # The i-th layer above the first costs what it adds (a routed one adds less), and is left out so often:
    left_out = (config.layer_drop * i / (layers - 1) * (through[i] - through[i - 1]) for i in range(1, layers))
    return through[-1] - sum(left_out)


def pretraining_run_flops(
    shape: Shape, config: PretrainConfig, vocab_size: int, *, steps: int, texts: int, tokens: int
) -> float:
    """Operations of a whole pre-training of `steps` batches over so many texts, which has read so many tokens."""
    sequences = sequences_seen(steps, texts, config.batch_size)
    forward = between(lambda length: pretraining_flops(shape, config, length, vocab_size), tokens / sequences)
    return TRAINING * sequences * forward


def finetuning_run_flops(
    shape: Shape, config: FinetuneConfig, num_labels: int, *, steps: int, items: int, mean_length: float
) -> float:
    """Operations of a whole fine-tuning of `steps` batches over so many items, with so many tokens each."""
    forward = between(lambda length: classifier_flops(shape, length, num_labels), mean_length)
    return TRAINING * sequences_seen(steps, items, config.batch_size) * forward


def sequences_seen(steps: int, items: int, batch_size: int) -> int:
    """Sequences in `steps` batches; an epoch's last batch may be short."""
    epochs, rest = divmod(steps, math.ceil(items / batch_size))
    return epochs * items + rest * batch_size


def between(cost: Callable[[int], float], at: float) -> float:
    """Linear interpolation of `cost`, a function of whole numbers, at a number that need not be whole."""
    low = math.floor(at)
    return cost(low) if low == at else cost(low) + (at - low) * (cost(low + 1) - cost(low))
