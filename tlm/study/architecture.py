"""The architectures of the study, by name: those of arXiv 2507.14871 and its released code, GPT-2s of the same width, and
those of arXiv 2405.14159 and its released code.

Imports neither torch nor transformers: a study file is read and planned with this module alone.
To add a variant, add one entry to `VARIANTS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field, PositiveInt, SerializeAsAny, ValidationInfo, field_validator, model_validator

from tlm.study.base import Frozen, Name, Probability, added
from tlm.study.families import FAMILIES, Options

HEAD_SIZE = 64
"""Width of one attention head in arXiv 2507.14871; hidden_size = head_size × num_attention_heads."""


@dataclass(frozen=True)
class Variant:
    """Layers, heads, the (positions, hidden) kernel and channels of the conv front, and the kind; the rest follows.

    `intermediate_size` is that of a model as wide as the variant's heads make it, by default four times as much; `options`
    are those of its kind that are not at their default.
    """

    num_hidden_layers: int
    num_attention_heads: int
    conv_kernel_sizes: tuple[tuple[int, int], ...] = ()
    conv_channels: int = 0
    kind: str = "encoder"
    head_size: int = HEAD_SIZE
    intermediate_size: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


_GELU = {"num_key_value_heads": 8, "ffn": "gelu"}
_PAPERS_BYTES = {
    "width": 128,
    "num_attention_heads": 8,
    "patch_bytes": 12,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "head": "parallel",
    "widens": True,
}
_SHARED = {"sharing": {"what": "ffn+out_proj"}}

# bert1, one layer of BERT-6, is not among the paper's five: it is what they and BERT-6 can both be held against.
VARIANTS: dict[str, Variant] = {
    "bert6": Variant(6, 12),
    "bert1": Variant(1, 12),
    "bert1a": Variant(1, 24),
    "bert1b": Variant(1, 12, ((3, 3), (3, 3)), 64),
    "bert1c": Variant(1, 8, ((3, 3), (3, 3)), 64),
    "bert1d": Variant(1, 12, ((3, 3), (3, 3), (3, 3)), 32),
    "bert1e": Variant(1, 12, ((16, 3), (16, 3)), 64),
    "gpt6": Variant(6, 12, kind="decoder"),
    "gpt1": Variant(1, 12, kind="decoder"),
    "gpt1a": Variant(1, 24, kind="decoder"),
    "gpt1c": Variant(1, 8, kind="decoder"),
    # The paper's three sizes; where its tables are silent (key/value heads, norms, biases), as their parameter counts tell.
    "stlm10": Variant(18, 16, (), 0, "llama", 24, 1_536, {**_GELU, **_SHARED, "norm": "layer_norm", "bias": True}),
    "stlm50": Variant(12, 16, (), 0, "llama", 32, 2_048, _GELU),
    "stlm100": Variant(33, 16, (), 0, "llama", 64, 4_096, {**_GELU, **_SHARED, "bias": True}),
    # Its released code, later and at the paper's date: 47,203,328 and 55,888,896 parameters over GPT-2's vocabulary.
    "stlm47": Variant(8, 16, (), 0, "llama", 32, 1_320, {"num_key_value_heads": 4}),
    "stlm56": Variant(10, 16, (), 0, "llama", 32, 1_536, {"num_key_value_heads": 4}),
    "micro": Variant(4, 4, (), 0, "llama", 32, 384, {"num_key_value_heads": 2}),
    # The same cores over bytes. The paper's code has patches of at most 12 bytes, each with a byte fewer here for its end.
    "byte-micro": Variant(4, 4, (), 0, "bytes", 32, 384, {"num_key_value_heads": 2, "byte": {"width": 64}}),
    "stlm-byte": Variant(10, 16, (), 0, "bytes", 32, 1_536, {"num_key_value_heads": 4, "byte": _PAPERS_BYTES}),
}

SHALLOW = ("bert1a", "bert1b", "bert1c", "bert1d", "bert1e")
"""The paper's five BERT-1 variants: the members of its committee."""


class Architecture(Frozen):
    """The shape of a model of one family: a BERT encoder, with the convolutional front of the BERT-1 variants if it has
    one, a GPT-2-style decoder, a decoder of the Llama kind, or what an extension adds.

    In a study file, `variant: bert1b` (with `head_size` and `conv_channels` to change the width) stands for the whole.
    """

    name: Name
    kind: Name = Field(
        "encoder",
        description="its family (`tlm.study.families`): encoder is BERT, decoder GPT-2, llama Llama, bytes Llama on bytes",
    )
    num_hidden_layers: PositiveInt
    hidden_size: PositiveInt
    num_attention_heads: PositiveInt
    intermediate_size: PositiveInt
    conv_kernel_sizes: tuple[tuple[PositiveInt, PositiveInt], ...] = Field(
        (), description="(positions, hidden) of each Conv2d"
    )
    conv_channels: Annotated[int, Field(ge=0)] = 0
    hidden_dropout_prob: Probability = 0.1
    attention_probs_dropout_prob: Probability = 0.1
    conv_over_padding: bool = Field(False, description="reference code: convolve and normalise over [PAD] as well")
    freeze_cls_embedding: bool = Field(False, description="reference code: padding_idx=101, so that [CLS] never learns")
    options: SerializeAsAny[Options] = added(
        Options(), description="fields that only its family has", validate_default=True
    )

    def identity(self, **options: Any) -> dict[str, Any]:
        """Without the name, which only says what a study calls it."""
        return super().identity(**{"exclude": {"name"}, **options})

    def with_dropout(self, p: float | None) -> Architecture:
        """The same with dropout `p` of hidden states and attention weights; None leaves both as they are."""
        if p is None:
            return self
        return self.model_copy(update={"hidden_dropout_prob": p, "attention_probs_dropout_prob": p})

    @model_validator(mode="before")
    @classmethod
    def _expand_variant(cls, data: Any) -> Any:
        if isinstance(data, dict) and "variant" in data:
            return expand(data)
        return data

    @field_validator("kind")
    @classmethod
    def _family_exists(cls, kind: str) -> str:
        return FAMILIES[kind].kind

    @field_validator("options", mode="before")
    @classmethod
    def _options_are_its_familys(cls, given: Any, info: ValidationInfo) -> Any:
        if "kind" not in info.data:  # it is unknown, which is error enough
            return Options()
        own = FAMILIES[info.data["kind"]].options
        return own.model_validate(dict(given) if isinstance(given, Options) else given)

    @model_validator(mode="after")
    def _shape_is_possible(self) -> Architecture:
        FAMILIES[self.kind].check(self)
        return self


def expand(data: dict[str, Any]) -> dict[str, Any]:
    """The fields of an `Architecture` from a variant's name and changes to it.

    `{"variant": "bert1b", "head_size": 16, "conv_channels": 8}` is the paper's variant (b) at a quarter of its width;
    any field of `Architecture` may be given too, and wins: `{"variant": "bert6", "num_hidden_layers": 2}`.
    hidden_size = head_size × num_attention_heads, intermediate_size in the variant's proportion to it (4, if it has no
    other), name = the variant's, unless given. Options are the variant's with those given. Unknown keys are left in, for
    the caller's validation to name.

    Raises ValueError on an unknown variant (it lists those known) or a width that is not a positive whole number.
    """
    changes = dict(data)
    name = changes.pop("variant", None)
    if not isinstance(name, str) or name not in VARIANTS:
        raise ValueError(f"variant: unknown {name!r}; choose from {sorted(VARIANTS)}")
    base = VARIANTS[name]
    head_size = _positive("head_size", changes.pop("head_size", base.head_size))
    heads = _positive("num_attention_heads", changes.get("num_attention_heads", base.num_attention_heads))
    hidden = _positive("hidden_size", changes.get("hidden_size", head_size * heads))
    usual = base.head_size * base.num_attention_heads
    if base.options or "options" in changes:
        options = changes.get("options", {})
        given = options.model_dump() if isinstance(options, Options) else options
        changes["options"] = {**base.options, **given} if isinstance(given, Mapping) else given
    return {
        "name": name,
        "kind": base.kind,
        "num_hidden_layers": base.num_hidden_layers,
        "num_attention_heads": heads,
        "hidden_size": hidden,
        "intermediate_size": (base.intermediate_size or 4 * usual) * hidden // usual,
        "conv_kernel_sizes": base.conv_kernel_sizes,
        "conv_channels": base.conv_channels,
        **changes,
    }


def variant(
    name: str,
    *,
    head_size: int | None = None,
    conv_channels: int | None = None,
    rename: str | None = None,
    **overrides: Any,
) -> Architecture:
    """A variant as an `Architecture`: `variant("bert1b", head_size=16, conv_channels=8, rename="bert1b-small")`.

    `overrides` are fields of `Architecture`. Raises pydantic's ValidationError (a ValueError), which names the field.
    """
    data: dict[str, Any] = {"variant": name, **overrides}
    if head_size is not None:
        data["head_size"] = head_size
    if conv_channels is not None:
        data["conv_channels"] = conv_channels
    if rename is not None:
        data["name"] = rename
    return Architecture(**data)


def _positive(field: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{field}: a positive whole number is needed, got {value!r}")
    return value
