"""What a model costs, from its shape alone: parameters and floating point operations. Imports no torch.

`shape` is an `Architecture` or a model's configuration. V vocabulary, P positions, D hidden size, F intermediate size,
T sequence length, C conv channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol


class Shape(Protocol):
    """The fields that set a model's cost."""

    @property
    def kind(self) -> str: ...
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
    """The parameters of the classifier with `num_labels`, or without it of the language model.

    Either kind: each layer 4(D² + D) + (DF + F) + (FD + D) + 4D.
    Encoder: embeddings (V + P + 2)·D + 2D; conv front Σ (k·k'·c_in·c_out + 2·c_out), 1×1 layer included; pooler D² + D
    and classifier D·L + L, or MLM head D² + D + 2D + V (its projection is the word embeddings).
    Decoder: embeddings (V + P)·D; last LayerNorm 2D; classifier D·L (the language model's head is the embeddings).
    """
    size, wide = shape.hidden_size, shape.intermediate_size
    layer = 4 * (size * size + size) + (size * wide + wide) + (wide * size + size) + 4 * size
    both = (vocab_size + max_position_embeddings) * size + shape.num_hidden_layers * layer + 2 * size
    if shape.kind == "decoder":
        return both + size * (num_labels or 0)
    conv = sum(area * c_in * c_out + 2 * c_out for area, c_in, c_out in _convolutions(shape))
    head = 2 * size + vocab_size if num_labels is None else (size + 1) * num_labels
    head += size * size + size  # the head's transform, or the pooler
    return both + TOKEN_TYPES * size + conv + head


def forward_flops(
    shape: Shape,
    seq_len: int,
    *,
    num_labels: int | None = None,
    masked_positions: int | None = None,
    vocab_size: int | None = None,
) -> int:
    """Floating point operations (two for each multiply-add) of one sequence's forward pass, as implemented.

    Give `num_labels` for the classifier; for the language model `vocab_size`, and an encoder's `masked_positions` (M, those
    predicted). Matrix products and convolutions only; a training step is about three times as much.

    conv Σ 2·T·D·k·k'·c_in·c_out; each layer: keys and values 4TD², queries 2RD², scores and context 4RTD (causal
    attention too: what comes later is multiplied, then masked), output and feed-forward R(2D² + 4DF). R = T, but in the
    last layer only what the head reads is computed: R = 1 for a classifier, R = M for MLM; a causal language model reads
    every row. Heads: an encoder's M(2D² + 2DV) or 2D² + 2DL, a decoder's (T - 1)·2DV or 2DL.

    Raises ValueError unless exactly one head of the kind is described.
    """
    size, wide = shape.hidden_size, shape.intermediate_size
    causal = shape.kind == "decoder"
    if num_labels is not None and masked_positions is None and vocab_size is None:
        read = 1
        head = 2 * size * num_labels if causal else 2 * size * (size + num_labels)
    elif causal and num_labels is None and masked_positions is None and vocab_size is not None:
        read = seq_len
        head = 2 * size * vocab_size * (seq_len - 1)
    elif not causal and num_labels is None and masked_positions is not None and vocab_size is not None:
        read = masked_positions
        head = 2 * size * (size + vocab_size) * masked_positions
    else:
        needed = "vocab_size" if causal else "masked_positions and vocab_size"
        raise ValueError(f"give either num_labels, or {needed}")

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
