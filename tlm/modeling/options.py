"""Where an encoder may differ from BERT, and decoders of the Llama kind from each other. Imports no torch: a study is
planned with this."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from tlm.study.base import Frozen, added
from tlm.study.families import Options


class EncoderOptions(Options):
    """Where later encoders differ from BERT. The embeddings are normalised in each; what is normalised before its layers is
    normalised after the last one too."""

    norm_position: Literal["post", "pre"] = added("post", description="of normalisation, around each part of a layer")
    norm: Literal["layer_norm", "rms_norm"] = added("layer_norm", description="rms_norm: no mean, and no bias")
    position_embedding_type: Literal["absolute", "rope"] = added(
        "absolute", description="rope: queries and keys are turned by their position, and no position is learned"
    )
    rope_theta: Annotated[float, Field(gt=1)] = added(10_000.0, description="base of the angles of rope")
    bias: bool = added(
        True, description="of linear maps and normalisations; the logits of words and of labels always have one"
    )
    attention_head_size: PositiveInt | None = added(
        None, description="width of a head; default: hidden_size / num_attention_heads, which then has to be whole"
    )


SHARED = {"ffn": ("mlp.",), "ffn+out_proj": ("mlp.", "self_attn.o_proj."), "block": ("",)}
"""By `Sharing.what`: what the names of shared weights begin with, within their layer."""


class Sharing(Frozen):
    """Which weights one layer has for several: those of the first of them, but for `keep` layers at either end.

    What is called a layer's own part is a low-rank product on top of each shared matrix (LoRA: Hu et al. 2021, arXiv
    2106.09685), which begins at zero.
    """

    what: Literal["ffn", "ffn+out_proj", "block"] = Field(
        description="the feed-forward network, that and attention's output projection, or the whole layer"
    )
    keep: Annotated[int, Field(ge=0)] = Field(0, description="layers at either end that share nothing")
    lora_rank: PositiveInt | None = Field(None, description="of each layer's own part; default: layers have none")
    lora_alpha: Annotated[float, Field(gt=0)] = Field(
        1.0, description="a layer's own part is multiplied by lora_alpha / lora_rank"
    )

    @model_validator(mode="after")
    def _alpha_scales_something(self) -> Sharing:
        if self.lora_rank is None and self.lora_alpha != 1.0:
            raise ValueError(f"lora_alpha={self.lora_alpha:g} without lora_rank: layers have no part of their own")
        return self

    def layers(self, count: int) -> range:
        """Those of so many layers that share; the first of them has the weights."""
        return range(self.keep, count - self.keep)

    def covers(self, name: str) -> bool:
        """Whether a weight, by its name within a layer, is among those that layers have in common."""
        return name.startswith(SHARED[self.what]) and ".lora_" not in name


class LlamaOptions(Options):
    """Where decoders of the Llama kind differ from each other."""

    num_key_value_heads: PositiveInt | None = added(
        None, description="heads of keys and values, each read by as many heads of queries; default: as many"
    )
    norm: Literal["rms_norm", "layer_norm"] = added(
        "rms_norm", description="layer_norm has a bias where `bias` says so"
    )
    ffn: Literal["swiglu", "gelu"] = added(
        "swiglu", description="swiglu: three matrices, one of them a gate; gelu: two"
    )
    rope_theta: Annotated[float, Field(gt=1)] = added(10_000.0, description="base of the angles of rope")
    bias: bool = added(False, description="of the linear maps of layers")
    tie_embeddings: bool = added(True, description="the vocabulary's projection is the token embeddings")
    sharing: Sharing | None = added(None, description="weights that layers have in common; default: none")
    exits: tuple[PositiveInt, ...] = added(
        (), description="numbers of layers after which the head may read the state too, ascending, fewer than there are"
    )

    depth_capacity: Annotated[float, Field(gt=0, le=1)] = added(
        1.0,
        description="share of the tokens that go through every second layer, from the second on; 1: all, in every layer",
    )

    @field_validator("exits")
    @classmethod
    def _exits_ascend(cls, exits: tuple[int, ...]) -> tuple[int, ...]:
        if any(later <= earlier for earlier, later in pairwise(exits)):
            raise ValueError(f"exits={list(exits)}: each must be above the one before it")
        return exits


def is_routed(options: Any, layer: int) -> bool:
    """Whether only a part of the tokens goes through a layer, counted from 0: `options`, or a configuration, says."""
    return bool(options.depth_capacity < 1 and layer % 2)


class ByteOptions(Frozen):
    """What is below and above the core of a model of bytes: an encoder from patches to vectors, a head back to bytes."""

    width: PositiveInt = Field(64, description="of the blocks within a patch")
    num_attention_heads: PositiveInt = Field(4, description="of these blocks")
    patch_bytes: Annotated[int, Field(ge=2, le=256)] = Field(
        16, description="ids of a patch at most: its bytes and its end; that of the tokenizer"
    )
    encoder_layers: Annotated[int, Field(ge=0)] = Field(2, description="blocks, each byte seeing its whole patch")
    decoder_layers: PositiveInt = Field(2, description="blocks of the head")
    head: Literal["autoregressive", "parallel"] = Field(
        "autoregressive",
        description="autoregressive: each byte is predicted from those before it; parallel: all of a patch at once",
    )
    widens: bool = Field(
        False,
        description="the encoder's first block doubles the width, and its last has that of the core; else a linear map has",
    )

    @property
    def encoder_widths(self) -> list[tuple[int, int | None]]:
        """Width of each of the encoder's blocks, and of what it puts out; None: that of the core."""
        if not self.widens:
            return [(self.width, self.width)] * self.encoder_layers
        inside = [self.width, *[2 * self.width] * (self.encoder_layers - 1)]
        return list(zip(inside, [*inside[1:], None], strict=True))


class ByteLlamaOptions(LlamaOptions):
    """Of a core of the Llama kind over patches of bytes."""

    byte: ByteOptions = added(ByteOptions(), description="what is below and above the core")
