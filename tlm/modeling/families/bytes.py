"""Models of bytes with a core of the Llama kind: those of arXiv 2405.14159 with pooling among them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tlm.data.byte_patches import EOP, SIZE
from tlm.modeling.families.base import Shape
from tlm.modeling.families.llama import Llama, core_parameters, layers_flops
from tlm.modeling.options import ByteLlamaOptions, ByteOptions
from tlm.study.architecture import Architecture
from tlm.study.families import FAMILIES

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from tlm.data.ragged import Ragged
    from tlm.data.tokenizer import Vocabulary
    from tlm.modeling.packing import Pack

IDS_OF_A_PATCH = 6.7
"""Bytes and end, in patches of English words: what operations are counted with."""
REPLACED = 50_257
"""Tokens of GPT-2's vocabulary, whose table the paper has bytes instead of."""


class Bytes(Llama):
    """Causal language modelling of every byte and every end of a patch, classification from the end of a text."""

    kind = "bytes"
    units = "byte"
    predicts_next = False  # patches do
    below_layers = ("model.begin", "model.encoder.")
    options = ByteLlamaOptions
    heldout_batch_size = 64
    transfer = replace(Llama.transfer, language_model_only=("head.",), meaning=(*Llama.transfer.meaning, "byte"))

    def check(self, architecture: Architecture) -> None:
        super().check(architecture)
        byte, options = _byte(architecture), _options(architecture)
        if not options.tie_embeddings:
            raise ValueError("tie_embeddings: a model of bytes has no table of tokens to tie")
        if options.exits:
            raise ValueError("exits: a model of bytes has none; its head reads the state of whole patches")
        if options.depth_capacity < 1:
            raise ValueError(
                f"depth_capacity={options.depth_capacity:g}: all patches of a model of bytes go through all layers"
            )
        if byte.width % byte.num_attention_heads:
            raise ValueError(
                f"byte.num_attention_heads={byte.num_attention_heads} does not divide byte.width={byte.width}"
            )
        if byte.widens and not byte.encoder_layers:
            raise ValueError("byte.widens: it is the encoder's blocks that widen, and byte.encoder_layers=0")

    def configure(
        self, architecture: Architecture, vocabulary: Vocabulary, max_length: int, num_labels: int | None = None
    ) -> PreTrainedConfig:
        """Its vocabulary is the bytes, whatever else is given."""
        config = self.language_model.config_class.from_architecture(
            architecture,
            vocab_size=SIZE,
            max_position_embeddings=max_length,
            pad_token_id=SIZE - 1,
            cls_token_id=SIZE - 1,
            num_labels=num_labels,
        )
        config.eos_token_id = EOP
        return config

    @property
    def language_model(self) -> type[PreTrainedModel]:
        from tlm.modeling import TinyByteForCausalLM

        return TinyByteForCausalLM

    @property
    def classifier(self) -> type[PreTrainedModel]:
        from tlm.modeling import TinyByteForSequenceClassification

        return TinyByteForSequenceClassification

    def packer(self, config: PreTrainedConfig, device: str) -> Pack:
        from tlm.modeling.patches import packer

        return packer(config.byte["width"], config.hidden_size, device)

    def made_up(self, texts: Ragged, shape: Shape) -> Ragged:
        """Bytes, in patches of words."""
        import numpy as np

        from tlm.data.ragged import Ragged

        size = min(round(IDS_OF_A_PATCH), _byte(shape).patch_bytes)
        ends = np.arange(len(texts.ids)) % size == size - 1
        ids = np.where(ends, EOP, texts.ids % EOP).astype(np.uint16)
        return Ragged(ids, texts.offsets)

    # --- cost ---

    def parameters(
        self, shape: Shape, *, vocab_size: int, max_position_embeddings: int, num_labels: int | None = None
    ) -> int:
        """Encoder and head, whatever the vocabulary; begin D; layers and last norm; classifier D·L in the head's place."""
        size, byte = shape.hidden_size, _byte(shape)
        above = _head(byte, size) if num_labels is None else size * num_labels
        return _encoder(byte, size) + above + size + core_parameters(shape, shared_once=True)

    def embeddings_and_head(self, shape: Shape, *, vocab_size: int, max_position_embeddings: int) -> int:
        """Encoder and head; the learned begin counts to the core."""
        byte = _byte(shape)
        return _encoder(byte, shape.hidden_size) + _head(byte, shape.hidden_size)

    def used_parameters(self, shape: Shape, *, vocab_size: int) -> int:
        """What an id is computed with, once in its patch: all products, what layers share for each of them."""
        byte, size = _byte(shape), shape.hidden_size
        read = (SIZE + 2 * byte.patch_bytes) * byte.width  # the encoder's bytes, and positions of both
        return _encoder(byte, size) + _head(byte, size) - read + core_parameters(shape, shared_once=False)

    def classifier_flops(self, shape: Shape, seq_len: int, num_labels: int) -> int:
        """Encoder; layers over patches, of which the last computes the end alone; head 2DL."""
        patches = _patches(seq_len)
        core = layers_flops(shape, patches + 1, read=1)
        return _encoder_flops(shape, seq_len - 1) + core + 2 * shape.hidden_size * num_labels

    def language_model_flops(self, shape: Shape, seq_len: int, predicted: int, vocab_size: int) -> int:
        """Encoder, layers over patches, head of all ids (an autoregressive one of those that are there), M·2·257·width."""
        byte, patches = _byte(shape), _patches(seq_len)
        rows, length = (
            (seq_len - 1, IDS_OF_A_PATCH)
            if byte.head == "autoregressive"
            else (patches * byte.patch_bytes, float(byte.patch_bytes))
        )
        state = (
            2 * shape.hidden_size * byte.width * (1 if byte.head == "autoregressive" else byte.patch_bytes) * patches
        )
        head = byte.decoder_layers * _block_flops(byte.width, byte.width, rows, length)
        core = layers_flops(shape, patches + 1, read=patches + 1)
        return _encoder_flops(shape, seq_len - 1) + core + state + head + 2 * (EOP + 1) * byte.width * predicted

    def sequential_depth(self, shape: Shape) -> int:
        """The core's, six for each block of the encoder, and one for its linear map."""
        byte = _byte(shape)
        return super().sequential_depth(shape) + 6 * byte.encoder_layers + (not byte.widens)

    def claim(self, shape: Shape) -> str:
        """What bytes save beside a table of tokens, and of what that is a share."""
        size = shape.hidden_size
        own = self.embeddings_and_head(shape, vocab_size=SIZE, max_position_embeddings=0)
        core = self.parameters(shape, vocab_size=SIZE, max_position_embeddings=0) - own
        table = REPLACED * size
        flops = self.language_model_flops(shape, 512, 511, SIZE) / (511 * (1 - 1 / IDS_OF_A_PATCH))
        return (
            f"embeddings and head have {own:,} parameters, {fewer(own, table)} than a tied table of {REPLACED:,} tokens "
            f"and {fewer(own, 2 * table)} than an untied one, and as many as a tied one of {own / size:,.0f} tokens. These "
            f"are shares of embeddings and head, not of the model: the whole has {fewer(own + core, table + core)} than "
            f"with a tied table. {flops / 1e6:,.3g} MFLOP a byte, forward."
        )


def fewer(few: int, many: int) -> str:
    """By how much, to a hundredth of a per cent; "more" where it is."""
    return f"{100 * abs(1 - few / many):.2f} % {'fewer' if few < many else 'more'}"


def _options(architecture: Architecture) -> ByteLlamaOptions:
    given = architecture.options
    return given if isinstance(given, ByteLlamaOptions) else ByteLlamaOptions.model_validate(dict(given))


def _byte(shape: Shape) -> ByteOptions:
    """Of an architecture, or of a model's configuration."""
    if isinstance(shape, Architecture):
        return _options(shape).byte
    return ByteOptions.model_validate(shape.byte)  # type: ignore[attr-defined]


def _patches(seq_len: int) -> int:
    """Of a text of so many ids, its begin and its end counted."""
    return max(1, round((seq_len - 1) / IDS_OF_A_PATCH))


def _widths(byte: ByteOptions, size: int) -> list[tuple[int, int]]:
    """(width, what it puts out) of each of the encoder's blocks."""
    return [(width, outputs or size) for width, outputs in byte.encoder_widths]


def _block(size: int, outputs: int) -> int:
    """Attention 4W², two linear maps 4W² + 4W · outputs, two norms 2W."""
    return 8 * size * size + 4 * size * outputs + 2 * size


def _encoder(byte: ByteOptions, size: int) -> int:
    """Bytes 258·W, positions P·W, blocks, and W·D for the linear map unless the blocks widen."""
    blocks = sum(_block(*each) for each in _widths(byte, size))
    return (SIZE + byte.patch_bytes) * byte.width + blocks + (0 if byte.widens else byte.width * size)


def _head(byte: ByteOptions, size: int) -> int:
    """258·W, which an autoregressive head reads and predicts with; positions P·W, blocks; of the state D·W and a norm W, or
    in parallel D·P·W."""
    state = size * byte.width + byte.width if byte.head == "autoregressive" else size * byte.width * byte.patch_bytes
    return (SIZE + byte.patch_bytes) * byte.width + byte.decoder_layers * _block(byte.width, byte.width) + state


def _block_flops(size: int, outputs: int, rows: int, length: float) -> int:
    """Two for each weight and row, scores and context 4·W·length for each row."""
    return round(rows * (2 * (_block(size, outputs) - 2 * size) + 4 * size * length))


def _encoder_flops(shape: Shape, rows: int) -> int:
    byte, size = _byte(shape), shape.hidden_size
    blocks = sum(_block_flops(*each, rows, IDS_OF_A_PATCH) for each in _widths(byte, size))
    return blocks + (0 if byte.widens else 2 * byte.width * size * _patches(rows + 1))


FAMILIES.register(Bytes.kind, Bytes())
