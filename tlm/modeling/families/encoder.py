"""BERT encoders, with the convolutional front of the BERT-1 variants if an architecture has one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tlm.modeling.families.base import ModelFamily, Pieces, Shape, Transfer, layers_flops
from tlm.modeling.options import EncoderOptions
from tlm.study.architecture import Architecture
from tlm.study.families import FAMILIES

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from tlm.modeling.packing import Pack

TOKEN_TYPES = 2
"""Rows of BERT's token type embedding."""


class Encoder(ModelFamily):
    """Masked language modelling from every position, classification from [CLS]."""

    kind = "encoder"
    causal = False
    layer_names = "bert.encoder.layer."
    below_layers = ("bert.embeddings.", "bert.conv_front.")
    has_output_bias = True
    default_objective = "masked"
    options = EncoderOptions
    reference_habits = {"conv_over_padding": True, "freeze_cls_embedding": True}  # noqa: RUF012  # ClassVar in the base
    heldout_batch_size = 128
    transfer = Transfer(
        classifier_only=("bert.pooler.", "classifier."),
        language_model_only=("cls.",),
        meaning=(
            "num_attention_heads",
            "conv_kernel_sizes",
            "conv_over_padding",
            "freeze_cls_embedding",
            "pad_token_id",
            "cls_token_id",
            "layer_norm_eps",
            *EncoderOptions.model_fields,
        ),
    )

    def check(self, architecture: Architecture) -> None:
        options = _options(architecture)
        if options.attention_head_size is None:
            super().check(architecture)
        if bool(architecture.conv_kernel_sizes) != bool(architecture.conv_channels):
            raise ValueError("conv_kernel_sizes and conv_channels go together: give both or neither")
        head = attention_width(architecture) // architecture.num_attention_heads
        if options.position_embedding_type == "rope" and head % 2:
            raise ValueError(f"position_embedding_type: rope turns pairs of numbers, and a head has {head} of them")

    @property
    def language_model(self) -> type[PreTrainedModel]:
        from tlm.modeling import TinyBertForMaskedLM

        return TinyBertForMaskedLM

    @property
    def classifier(self) -> type[PreTrainedModel]:
        from tlm.modeling import TinyBertForSequenceClassification

        return TinyBertForSequenceClassification

    def packer(self, config: PreTrainedConfig, device: str) -> Pack:
        """A front that convolves over padding gets all of it, as one rectangle."""
        from tlm.modeling.packing import padder

        if config.conv_kernel_sizes and config.conv_over_padding:
            return padder()
        return super().packer(config, device)

    def neurons(self, shape: Shape) -> Pieces:
        return Pieces("intermediate_size", shape.intermediate_size, 1, ("intermediate.dense",), "output.dense")

    def heads(self, shape: Shape) -> Pieces:
        """Those that remain keep their width."""
        count = shape.num_attention_heads
        width = attention_width(shape) // count
        into = tuple(f"attention.self.{name}" for name in ("query", "key", "value"))
        options = {"attention_head_size": width}
        return Pieces("num_attention_heads", count, width, into, "attention.output.dense", options)

    def parameters(
        self, shape: Shape, *, vocab_size: int, max_position_embeddings: int, num_labels: int | None = None
    ) -> int:
        """Embeddings (V + P + 2)·D, without P if positions are not learned; conv front Σ (k·k'·c_in·c_out + 2·c_out), 1×1
        layer included; layers 4DA + 2DF + 2 norms and biases of 3A + 2D + F; pooler D² + D and classifier D·L + L, or MLM
        head D² + D + norm + V (its projection is the word embeddings); norms of 2D, or D without bias, one of the
        embeddings and one after pre-norm layers. P positions, F intermediate size, A width of all heads, usually D.
        """
        size, wide, options = shape.hidden_size, shape.intermediate_size, _options(shape)
        positions = max_position_embeddings if options.position_embedding_type == "absolute" else 0
        norm = size * (1 + (options.bias and options.norm == "layer_norm"))
        embeddings = (vocab_size + positions + TOKEN_TYPES) * size + norm
        conv = sum(area * c_in * c_out + 2 * c_out for area, c_in, c_out in _convolutions(shape))
        heads = attention_width(shape)
        layer = 4 * size * heads + 2 * size * wide + 2 * norm + options.bias * (3 * heads + 2 * size + wide)
        last_norm = norm * (options.norm_position == "pre")
        transform_or_pooler = size * size + options.bias * size
        head = norm + vocab_size if num_labels is None else (size + 1) * num_labels
        return embeddings + conv + shape.num_hidden_layers * layer + last_norm + transform_or_pooler + head

    def embeddings_and_head(self, shape: Shape, *, vocab_size: int, max_position_embeddings: int) -> int:
        """With token types, the norm of the embeddings, and the linear map and norm before the vocabulary's projection."""
        size, options = shape.hidden_size, _options(shape)
        norm = size * (1 + (options.bias and options.norm == "layer_norm"))
        grows = super().embeddings_and_head(
            shape, vocab_size=vocab_size, max_position_embeddings=max_position_embeddings
        )
        return grows + TOKEN_TYPES * size + norm + size * size + options.bias * size + norm

    def used_parameters(self, shape: Shape, *, vocab_size: int) -> int:
        """Of token types too a row is read."""
        return super().used_parameters(shape, vocab_size=vocab_size) - TOKEN_TYPES * shape.hidden_size

    def classifier_flops(self, shape: Shape, seq_len: int, num_labels: int) -> int:
        """Conv front Σ 2·T·D·k·k'·c_in·c_out, layers of which the last computes [CLS] alone, head 2D² + 2DL."""
        head = 2 * shape.hidden_size * (shape.hidden_size + num_labels)
        layers = layers_flops(shape, seq_len, read=1, heads=attention_width(shape))
        return _conv_flops(shape, seq_len) + layers + head

    def language_model_flops(self, shape: Shape, seq_len: int, predicted: int, vocab_size: int) -> int:
        """The last layer and the head, M(2D² + 2DV), compute only the M = `predicted` positions."""
        head = 2 * shape.hidden_size * (shape.hidden_size + vocab_size) * predicted
        layers = layers_flops(shape, seq_len, read=predicted, heads=attention_width(shape))
        return _conv_flops(shape, seq_len) + layers + head

    def sequential_depth(self, shape: Shape) -> int:
        """Each layer has six: queries, keys and values (side by side), scores, context, output projection, and the two of
        the feed-forward network. The conv front has one for each convolution, the closing 1×1 included; pooler and
        classifier are two more. BERT-6 has 38, bert1a 8.
        """
        return 6 * shape.num_hidden_layers + sum(1 for _ in _convolutions(shape)) + 2


def attention_width(shape: Shape) -> int:
    """Of all heads of a layer together: the hidden size, unless an architecture's options give a head another width."""
    options = _options(shape) if isinstance(shape, Architecture) else shape
    own = getattr(options, "attention_head_size", None)
    return shape.hidden_size if own is None else shape.num_attention_heads * own


def _options(shape: Shape) -> EncoderOptions:
    """Of an architecture, or of a model's configuration, which has them among its fields."""
    if isinstance(shape, Architecture):
        return EncoderOptions.model_validate(dict(shape.options))
    return EncoderOptions.model_validate({name: getattr(shape, name) for name in EncoderOptions.model_fields})


def _conv_flops(shape: Shape, seq_len: int) -> int:
    return sum(2 * seq_len * shape.hidden_size * area * c_in * c_out for area, c_in, c_out in _convolutions(shape))


def _convolutions(shape: Shape) -> Iterator[tuple[int, int, int]]:
    """(kernel area, channels in, channels out) of each convolution, the closing 1×1 one included."""
    channels = 1
    for positions, hidden in shape.conv_kernel_sizes:
        yield positions * hidden, channels, shape.conv_channels
        channels = shape.conv_channels
    if shape.conv_kernel_sizes:
        yield 1, channels, 1


FAMILIES.register(Encoder.kind, Encoder())
