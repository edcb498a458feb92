"""A part of a training step, timed in each precision in turn. Needs torch; imported by a child process."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import process_time

import torch

from tlm.cost.measure import made_up_texts, made_up_vocabulary
from tlm.cost.shape import Shape
from tlm.machine.precision import Resolved
from tlm.modeling.cost import TRAINING
from tlm.modeling.families.base import family_of
from tlm.training.loop import gradients
from tlm.training.pretrain import objective_of, pretraining_batches

BATCH, FEWEST = 32, 4
"""Texts of a measured step, at most and at least."""
LARGEST = 1e10
"""Operations of a measured step, if FEWEST texts have no more: tenths of a second on a core."""
ROUNDS = 3
"""How often each precision is timed, at least, after a first time that counts for nothing: it compiles products."""
ENOUGH = 0.5
"""Seconds after which there is no further round."""


def seconds_in_each(shape: Shape) -> dict[Resolved, float]:
    """Processor time of a language model's loss and gradients in each precision.

    It is the least of a few times, taken in turns: what else the machine does meanwhile takes none of this process's
    processor time, and what it costs in cache is seldom there in every round. The optimizer works in float32 in either
    case, and is left out.
    """
    step = _step(shape)
    best: dict[Resolved, float] = {}
    for precision in ("float32", "bfloat16"):
        step(precision)
        best[precision] = math.inf
    rounds, began = 0, process_time()
    while rounds < ROUNDS or process_time() - began < ENOUGH * torch.get_num_threads():
        for precision in best:
            start = process_time()
            step(precision)
            best[precision] = min(best[precision], process_time() - start)
        rounds += 1
    return best


def _step(shape: Shape) -> Callable[[Resolved], None]:
    """A function that computes loss and gradients of one batch, always the same, in a precision."""
    torch.manual_seed(0)
    vocabulary = made_up_vocabulary(shape.vocab_size)
    config = shape.config.model_copy(update={"batch_size": _texts(shape)})
    objective = objective_of(shape.architecture, config)
    family = family_of(shape.architecture)
    model = family.language_model(family.configure(shape.architecture, vocabulary, shape.max_length))
    module = objective.trained_module(model)
    module.train()
    texts = made_up_texts(shape.text_length, shape.max_length, shape.vocab_size, config.batch_size)
    texts = family.made_up(texts, shape.architecture)
    batches = pretraining_batches(objective, model, texts, vocabulary, config, max_length=shape.max_length, seed=0)
    inputs = batches.inputs(1, batches.order.batch(0)[1])

    def step(precision: Resolved) -> None:
        gradients(module, inputs, config.model_copy(update={"precision": precision}), "cpu")

    return step


def _texts(shape: Shape) -> int:
    """As many texts as make a step of no more than LARGEST operations."""
    return max(FEWEST, min(BATCH, int(LARGEST / (TRAINING * shape.forward_flops))))
