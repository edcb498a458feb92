"""A model's weights, AdamW's moments and the gradients, each as one flat tensor: what an optimizer step moves, and no more.

Weights and moments are float32. Products read a copy in the precision they are computed in, which AdamW writes along with
the weights: no step casts them. Gradients of these products come in that precision, as they do under autocast.

Regions, one after another: `products` (what `nn.Linear` has), `words` (the word embeddings, which the head of masked
language modelling multiplies with as well), `rest` (positions, token types, normalisation: float32 throughout).

Shapes: P numbers of all weights, Q of them products, W words; V vocabulary, D hidden size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tlm.training.prepacked import BETAS

ALIGNED = 64
"""Blocks begin at a multiple of so many numbers; the vocabulary is rounded up to one as well: products of matrices whose
rows do not begin at a multiple of 16 bytes take kernels of a third of the speed."""
NEVER = -30_000.0
"""The bias of the tokens that only round the vocabulary up. Their probability is 0, in any precision."""
EPSILON = 1e-8
WORDS = "bert.embeddings.word_embeddings.weight"
VOCABULARY_BIAS = "cls.predictions.bias"


@dataclass(frozen=True)
class Block:
    """Parameters that lie side by side, to be read as one tensor of `shape`."""

    names: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)


class Flat:
    """The parameters of a model, moved into one tensor: `model`'s own are views of it from now on.

    Args:
        products, rest: blocks in the order in which they shall lie. Every parameter but the word embeddings is in one.
        dtype: of the products' copy; float32 needs none.
        words_multiply: whether the word embeddings are a factor of a product as well.
    """

    def __init__(
        self,
        model: nn.Module,
        products: Sequence[Block],
        rest: Sequence[Block],
        *,
        dtype: torch.dtype,
        words_multiply: bool,
    ) -> None:
        parameters = dict(model.named_parameters())
        device = parameters[WORDS].device
        self.words = Block((WORDS,), (padded(parameters[WORDS].shape[0]), parameters[WORDS].shape[1]))
        self._starts: dict[Block, int] = {}
        self.products_end = self._place(products, 0)
        self.words_end = self._place([self.words], self.products_end)
        self.end = self._place(rest, self.words_end)
        if len(parameters) != sum(len(block.names) for block in self._starts):
            raise ValueError("a parameter is in no block, or in two")
        with torch.device(device):
            self.weights_P = torch.zeros(self.end)
            self.first_P = torch.zeros(self.end)
            self.second_P = torch.zeros(self.end)
            low = dtype != torch.float32
            copied = (self.words_end if words_multiply else self.products_end) if low else 0
            self.copy_P = torch.zeros(copied, dtype=dtype) if low else self.weights_P
            self.gradients_Q = torch.zeros(self.products_end, dtype=dtype)
            self.gradients_rest = torch.zeros(self.end - self.products_end)
        self.copied = copied
        self._adopt(parameters)
        self.start_P = self.weights_P.clone()

    def _place(self, blocks: Iterable[Block], start: int) -> int:
        for block in blocks:
            self._starts[block] = start
            start = padded(start + block.numbers)
        return start

    def _adopt(self, parameters: dict[str, nn.Parameter]) -> None:
        """Copy the parameters' values, and make each of them a view."""
        for block, start in self._starts.items():
            if VOCABULARY_BIAS in block.names:
                self.weights_P[start : start + block.numbers] = NEVER
            for name in block.names:
                parameter = parameters[name]
                own = self.weights_P[start : start + parameter.numel()].view(parameter.shape)
                own.copy_(parameter.detach())
                parameter.data = own
                start += parameter.numel()
        self.refresh()

    def refresh(self) -> None:
        """Make the products' copy equal to the weights again."""
        if self.copied:
            self.copy_P.copy_(self.weights_P[: self.copied])

    def restart(self) -> None:
        """Forget the moments, after weights were written into the model's parameters."""
        self.first_P.zero_()
        self.second_P.zero_()
        self.refresh()

    def rewind(self) -> None:
        """Back to the weights that the model came with."""
        self.weights_P.copy_(self.start_P)
        self.restart()

    # --- views ---

    @property
    def blocks(self) -> tuple[Block, ...]:
        return tuple(self._starts)

    def leaf(self, block: Block) -> Tensor:
        """A block for a product to read, in its precision, that collects a gradient.

        Autograd does not see AdamW write to it, nor to its neighbours: that is done only when no gradient needs it.
        """
        return self._view(self.copy_P, block, 0).data.requires_grad_()

    def wide_leaf(self, block: Block) -> Tensor:
        """A block in float32 that collects a gradient."""
        return self.wide(block).data.requires_grad_()

    def wide(self, block: Block) -> Tensor:
        """A block in float32."""
        return self._view(self.weights_P, block, 0)

    def gradient(self, block: Block) -> Tensor:
        """Where a block's gradient is to be written."""
        if self._starts[block] < self.products_end:
            return self._view(self.gradients_Q, block, 0)
        return self._view(self.gradients_rest, block, self.products_end)

    def span(self, blocks: Sequence[Block]) -> tuple[int, int]:
        """Beginning and end of consecutive blocks."""
        return self._starts[blocks[0]], padded(self._starts[blocks[-1]] + blocks[-1].numbers)

    def _view(self, flat: Tensor, block: Block, offset: int) -> Tensor:
        start = self._starts[block] - offset
        return flat[start : start + block.numbers].view(block.shape)


def padded(numbers: int) -> int:
    return numbers + -numbers % ALIGNED


# --- AdamW ---


def adamw(
    weights: Tensor,
    first: Tensor,
    second: Tensor,
    gradients: Tensor,
    copy: Tensor | None,
    decay: Tensor,
    step_size: Tensor,
    variance_scale: Tensor,
) -> None:
    """torch's AdamW on flat tensors, and the weights once more into `copy`. Compiled, it is one pass over memory.

    `decay`, `step_size` and `variance_scale` are those of `tlm.training.prepacked.Scalars`, each of shape ().
    """
    gradient = gradients.float()
    moment = torch.lerp(first, gradient, 1 - BETAS[0])
    variance = second * BETAS[1] + gradient * gradient * (1 - BETAS[1])
    updated = weights * decay - step_size * moment / (variance.sqrt() * variance_scale + EPSILON)
    first.copy_(moment)
    second.copy_(variance)
    weights.copy_(updated)
    if copy is not None:
        copy.copy_(updated)


def fused_adamw(
    weights: Tensor,
    first: Tensor,
    second: Tensor,
    gradients: Tensor,
    copy: Tensor | None,
    count: Tensor,
    rate: Tensor,
    weight_decay: float,
) -> None:
    """The same with torch's own kernel: more passes over memory, and nothing to compile."""
    torch._fused_adamw_(
        [weights],
        [gradients.float()],
        [first],
        [second],
        [],
        [count],
        lr=rate,
        beta1=BETAS[0],
        beta2=BETAS[1],
        weight_decay=weight_decay,
        eps=EPSILON,
        amsgrad=False,
        maximize=False,
    )
    if copy is not None:
        copy.copy_(weights)
