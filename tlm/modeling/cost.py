"""What a model costs, from its shape alone: parameters and floating point operations. Imports no torch.

`shape` is an `Architecture` or a `TinyBertConfig`. V vocabulary, P positions, D hidden size, F intermediate size,
T sequence length, C conv channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol


class Shape(Protocol):
    """The fields that set a model's cost."""

    @property
    def num_hidden_layers(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def intermediate_size(self) -> int: ...
    @property
    def conv_kernel_sizes(self) -> Sequence[tuple[int, int]]: ...
    @property
    def conv_channels(self) -> int: ...


TOKEN_TYPES = 2  # rows of the token type embedding (BERT's)


def count_parameters(model: Any) -> int:
    """The trainable parameters of a torch module; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def expected_parameters(
    shape: Shape, *, vocab_size: int, max_position_embeddings: int, num_labels: int | None = None
) -> int:
    """The parameters of the classifier with `num_labels`, or without it of the masked language model.

    embeddings (V + P + 2)·D + 2D; conv front Σ (k·k'·c_in·c_out + 2·c_out), 1×1 layer included; each layer
    4(D² + D) + (DF + F) + (FD + D) + 4D; pooler D² + D and classifier D·L + L, or MLM head D² + D + 2D + V
    (its projection is the word embeddings).
    """
    size, wide = shape.hidden_size, shape.intermediate_size
    embeddings = (vocab_size + max_position_embeddings + TOKEN_TYPES) * size + 2 * size
    conv = sum(area * c_in * c_out + 2 * c_out for area, c_in, c_out in _convolutions(shape))
    layer = 4 * (size * size + size) + (size * wide + wide) + (wide * size + size) + 4 * size
    head = 2 * size + vocab_size if num_labels is None else (size + 1) * num_labels
    head += size * size + size  # the head's transform, or the pooler
    return embeddings + conv + shape.num_hidden_layers * layer + head


def forward_flops(
    shape: Shape,
    seq_len: int,
    *,
    num_labels: int | None = None,
    masked_positions: int | None = None,
    vocab_size: int | None = None,
) -> int:
    """Floating point operations (two for each multiply-add) of one sequence's forward pass, as implemented.

    Give `num_labels` for the classifier, or `masked_positions` (M, those predicted) and `vocab_size` for the masked
    language model. Matrix products and convolutions only; a training step is about three times as much.

    conv Σ 2·T·D·k·k'·c_in·c_out; each layer: keys and values 4TD², queries 2RD², scores and context 4RTD, output and
    feed-forward R(2D² + 4DF). R = T, but in the last layer only what the head reads is computed: R = M for
    MLM, R = 1 for the classifier. Heads: M(2D² + 2DV), or 2D² + 2DL.

    Raises ValueError unless exactly one head is described.
    """
    size, wide = shape.hidden_size, shape.intermediate_size
    if num_labels is not None and masked_positions is None and vocab_size is None:
        read = 1
        head = 2 * size * (size + num_labels)
    elif num_labels is None and masked_positions is not None and vocab_size is not None:
        read = masked_positions
        head = 2 * size * (size + vocab_size) * masked_positions
    else:
        raise ValueError("give either num_labels, or masked_positions and vocab_size")

    def layer(rows: int) -> int:
        projections = 2 * size * size * (2 * seq_len + rows)
        return projections + 4 * rows * seq_len * size + rows * (2 * size * size + 4 * size * wide)

    conv = sum(2 * seq_len * size * area * c_in * c_out for area, c_in, c_out in _convolutions(shape))
    return conv + (shape.num_hidden_layers - 1) * layer(seq_len) + layer(read) + head


def _convolutions(shape: Shape) -> Iterator[tuple[int, int, int]]:
    """(kernel area, channels in, channels out) of each convolution, the closing 1×1 one included."""
    channels = 1
    for positions, hidden in shape.conv_kernel_sizes:
        yield positions * hidden, channels, shape.conv_channels
        channels = shape.conv_channels
    if shape.conv_kernel_sizes:
        yield 1, channels, 1
