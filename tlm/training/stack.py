"""Several models of one shape trained together: their parameters stacked, one kernel for all of them.

Pays where a step is many small kernels, which a GPU launches one by one; on a CPU the products fill the machine alone
(docs/performance.md has the measurement). Each member is what it would be alone, within the rounding of the products;
dropout is drawn for each member.

Shapes: M members, B sequences of each, N queried rows of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from tlm.data.ragged import Ragged, Rows
from tlm.data.tokenizer import Vocabulary
from tlm.modeling.layout import Layout, Queries
from tlm.training.batching import Order, Packed, packer, with_specials
from tlm.training.loop import Data, Inputs
from tlm.training.masking import IGNORED, Masker, masked_inputs, next_token_inputs


class _Loss(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: Any) -> Tensor:
        loss: Tensor = self.model.loss(**inputs)
        return loss


class Stack(nn.Module):
    """M models as one: every parameter and buffer has a new first dimension M.

    `loss` is the sum over members, so that each gets the gradient of its own; `losses_M` are the last ones.
    ValueError unless the models have the same configuration, or if there is none.
    """

    losses_M: Tensor

    def __init__(self, models: Sequence[Any]) -> None:
        super().__init__()
        if not models:
            raise ValueError("a stack needs at least one model")
        for model in models[1:]:
            if model.config.to_dict() != models[0].config.to_dict():
                raise ValueError("stacked models must have the same configuration")
        self.models = tuple(models)
        self.config = models[0].config
        parameters, buffers = stack_module_state([_Loss(model) for model in models])
        self.names = list(parameters)
        self.stacked = nn.ParameterList(nn.Parameter(tensor.detach()) for tensor in parameters.values())
        self.buffer_names = [name for name, tensor in buffers.items() if tensor.shape[0] == len(models)]
        for index, name in enumerate(self.buffer_names):
            self.register_buffer(f"buffer_{index}", buffers[name])

    def __setattr__(self, name: str, value: Any) -> None:
        # The models themselves are no submodules: their parameters are not trained, but overwritten by `unstack`.
        if name == "models":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def members(self) -> int:
        return len(self.models)

    def state(self) -> dict[str, Tensor]:
        """The stacked parameters and buffers, by their names in one model."""
        buffers = {name: self.get_buffer(f"buffer_{i}") for i, name in enumerate(self.buffer_names)}
        return {**dict(zip(self.names, self.stacked, strict=True)), **buffers}

    def train(self, mode: bool = True) -> Stack:
        """Also of the model whose code runs."""
        self.models[0].train(mode)
        return super().train(mode)

    def loss(self, **inputs: Any) -> Tensor:
        """The sum of the members' losses, from the joined inputs of `stacked_inputs`."""
        losses_M = functional_call(_Loss(self.models[0]), self.state(), kwargs=inputs)
        self.losses_M = losses_M.detach()
        return losses_M.sum()

    @torch.no_grad()
    def clip_gradients(self, max_norm: float) -> None:
        """Scale each member's gradients to a norm of at most `max_norm`."""
        gradients = [parameter.grad for parameter in self.stacked if parameter.grad is not None]
        squares = [gradient.flatten(1).square().sum(1) for gradient in gradients]
        scale_M = (max_norm / (torch.stack(squares).sum(0).sqrt() + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(scale_M.view(-1, *[1] * (gradient.ndim - 1)))

    @torch.no_grad()
    def unstack(self) -> None:
        """Write what was learned back into the models."""
        for index, model in enumerate(self.models):
            own = dict(_Loss(model).named_parameters()) | dict(_Loss(model).named_buffers())
            for name, tensor in self.state().items():
                own[name].copy_(tensor[index])


@dataclass(frozen=True)
class StackedOrder:
    """The items of every member's next batch, member by member. All orders have the same size and batch size."""

    orders: tuple[Order, ...]

    @property
    def steps_per_epoch(self) -> int:
        return self.orders[0].steps_per_epoch

    def batch(self, step: int) -> tuple[int, Rows]:
        """(epoch, items (M · B,)) of a 0-based step."""
        batches = [order.batch(step) for order in self.orders]
        return batches[0][0], np.concatenate([rows for _, rows in batches])


def mlm_data(
    stack: Stack,
    corpus: Ragged,
    vocabulary: Vocabulary,
    *,
    seeds: Sequence[int],
    batch_size: int,
    mlm_probability: float,
    max_length: int,
    device: str = "cpu",
) -> Data:
    """Masked language modelling for every member, order and masks from its own seed, as `objectives.mlm_data` alone."""
    asked = [partial(masked_inputs, masker=Masker(vocabulary, mlm_probability, seed)) for seed in seeds]
    return _language_data(stack, corpus, vocabulary, asked, _orders(len(corpus), batch_size, seeds), max_length, device)


def causal_data(
    stack: Stack,
    corpus: Ragged,
    vocabulary: Vocabulary,
    *,
    seeds: Sequence[int],
    batch_size: int,
    max_length: int,
    device: str = "cpu",
) -> Data:
    """Causal language modelling for every member, in an order from its own seed, as `objectives.causal_data` alone."""
    asked = [lambda batch, step: next_token_inputs(batch)] * stack.members
    return _language_data(stack, corpus, vocabulary, asked, _orders(len(corpus), batch_size, seeds), max_length, device)


def _language_data(
    stack: Stack,
    corpus: Ragged,
    vocabulary: Vocabulary,
    asked: Sequence[Callable[..., dict[str, Any]]],
    orders: StackedOrder,
    max_length: int,
    device: str,
) -> Data:
    """`asked[m](batch, step=…)` makes member m's inputs of its batch."""
    pack = packer(stack.config, device)

    def inputs(step: int, items: Rows) -> Inputs:
        batches = _pack_alike(pack, corpus, items.reshape(stack.members, -1), vocabulary, max_length)
        each = [ask(batch, step=step) for batch, ask in zip(batches, asked, strict=True)]
        return {**_join(batches, [given["ids_R"] for given in each]), **_join_queries(batches, each)}

    return Data(orders, inputs)


def classification_data(
    stack: Stack,
    tokens: Ragged,
    labels: Tensor,
    vocabulary: Vocabulary,
    *,
    seeds: Sequence[int],
    batch_size: int,
    max_length: int,
    device: str = "cpu",
) -> Data:
    """Fine-tuning for every member on the same items, in an order from its own seed."""
    pack = packer(stack.config, device)

    def inputs(step: int, items: Rows) -> Inputs:
        items_MB = items.reshape(stack.members, -1)
        batches = _pack_alike(pack, tokens, items_MB, vocabulary, max_length)
        own = [labels[rows[batch.order_B]] for rows, batch in zip(items_MB, batches, strict=True)]
        return {**_join(batches, [batch.ids_R for batch in batches]), "labels_B": torch.cat(own)}

    return Data(_orders(len(tokens), batch_size, seeds), inputs)


def _orders(size: int, batch_size: int, seeds: Sequence[int]) -> StackedOrder:
    return StackedOrder(tuple(Order(size, batch_size, seed) for seed in seeds))


def _pack_alike(
    pack: Callable[..., Packed], sequences: Ragged, items_MB: Rows, vocabulary: Vocabulary, max_length: int
) -> list[Packed]:
    """Every member's batch in the same rectangles, each as long as the longest member needs."""
    lengths_MB = -np.sort(-with_specials(sequences.lengths[items_MB], max_length), axis=1)
    room_B = lengths_MB.max(axis=0)
    return [pack(sequences, items, vocabulary, max_length, room_B=room_B) for items in items_MB]


def _join(batches: Sequence[Packed], ids: Sequence[Tensor]) -> dict[str, Any]:
    return {"ids_R": torch.cat(list(ids)), "layout": Layout.join([batch.layout for batch in batches])}


def _join_queries(batches: Sequence[Packed], each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Every member gets as many queries as the one with most; those too many are rows whose label is not counted."""
    most = max(len(given["labels_N"]) for given in each)
    rows, labels, first_row = [], [], 0
    for batch, given in zip(batches, each, strict=True):
        missing = most - len(given["labels_N"])
        spare = batch.layout.first_rows().repeat(missing // len(batch.order_B) + 1)[:missing]
        own_rows, order = torch.cat([given["queries"].rows_N, spare]).sort(stable=True)
        rows.append(own_rows + first_row)
        labels.append(torch.cat([given["labels_N"], torch.full((missing,), IGNORED)])[order])
        first_row += len(batch.ids_R)
    layout = Layout.join([batch.layout for batch in batches])
    return {"queries": Queries.of(layout, torch.cat(rows)), "labels_N": torch.cat(labels)}
