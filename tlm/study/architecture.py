"""The architectures of the study, by name: those of arXiv 2507.14871 and its released code, and GPT-2s of the same width.

Imports neither torch nor transformers: a study file is read and planned with this module alone.
To add a variant, add one entry to `VARIANTS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, PositiveInt, SerializeAsAny, ValidationInfo, field_validator, model_validator

from tlm.study.base import Frozen, Name, Probability, added
from tlm.study.families import FAMILIES, Options

HEAD_SIZE = 64
"""The paper's width of one attention head; hidden_size = head_size × num_attention_heads."""


@dataclass(frozen=True)
class Variant:
    """Layers, heads, the (positions, hidden) kernel and channels of the conv front, and the kind; the rest follows."""

    num_hidden_layers: int
    num_attention_heads: int
    conv_kernel_sizes: tuple[tuple[int, int], ...] = ()
    conv_channels: int = 0
    kind: str = "encoder"


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
}

SHALLOW = ("bert1a", "bert1b", "bert1c", "bert1d", "bert1e")
"""The paper's five BERT-1 variants: the members of its committee."""


class Architecture(Frozen):
    """The shape of a model of one family: a BERT encoder, with the convolutional front of the BERT-1 variants if it has
    one, a GPT-2-style decoder, or what an extension adds.

    In a study file, `variant: bert1b` (with `head_size` and `conv_channels` to change the width) stands for the whole.
    """

    name: Name
    kind: Name = Field("encoder", description="its family (`tlm.study.families`): encoder is BERT, decoder GPT-2")
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
    hidden_size = head_size × num_attention_heads, intermediate_size = 4 × hidden_size, name = the variant's, unless
    given. Unknown keys are left in, for the caller's validation to name.

    Raises ValueError on an unknown variant (it lists those known) or a width that is not a positive whole number.
    """
    changes = dict(data)
    name = changes.pop("variant", None)
    if not isinstance(name, str) or name not in VARIANTS:
        raise ValueError(f"variant: unknown {name!r}; choose from {sorted(VARIANTS)}")
    base = VARIANTS[name]
    head_size = _positive("head_size", changes.pop("head_size", HEAD_SIZE))
    heads = _positive("num_attention_heads", changes.get("num_attention_heads", base.num_attention_heads))
    hidden = _positive("hidden_size", changes.get("hidden_size", head_size * heads))
    return {
        "name": name,
        "kind": base.kind,
        "num_hidden_layers": base.num_hidden_layers,
        "num_attention_heads": heads,
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "conv_kernel_sizes": base.conv_kernel_sizes,
        "conv_channels": base.conv_channels,
        **changes,
    }


def variant(
    name: str,
    *,
    head_size: int = HEAD_SIZE,
    conv_channels: int | None = None,
    rename: str | None = None,
    **overrides: Any,
) -> Architecture:
    """A variant as an `Architecture`: `variant("bert1b", head_size=16, conv_channels=8, rename="bert1b-small")`.

    `overrides` are fields of `Architecture`. Raises pydantic's ValidationError (a ValueError), which names the field.
    """
    data: dict[str, Any] = {"variant": name, "head_size": head_size, **overrides}
    if conv_channels is not None:
        data["conv_channels"] = conv_channels
    if rename is not None:
        data["name"] = rename
    return Architecture(**data)


def _positive(field: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{field}: a positive whole number is needed, got {value!r}")
    return value
