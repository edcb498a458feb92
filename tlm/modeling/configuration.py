"""The configurations of a tiny BERT (transformers' BERT plus the conv front), of a tiny GPT-2 and of a tiny Llama."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from transformers import BertConfig, PreTrainedConfig

from tlm.modeling.options import ByteOptions, EncoderOptions, LlamaOptions

if TYPE_CHECKING:
    from tlm.study.architecture import Architecture
    from tlm.study.families import Options


class _OfArchitecture:
    """What these configurations have in common: how an `Architecture` becomes one."""

    kind: ClassVar[str]
    first_token: ClassVar[str]
    """The field that holds the id of the token that begins every sequence, [CLS]."""
    not_theirs: ClassVar[frozenset[str]] = frozenset()
    """Fields of an `Architecture` that these models do not have."""

    @classmethod
    def from_architecture(
        cls,
        arch: Architecture,
        *,
        vocab_size: int,
        max_position_embeddings: int,
        pad_token_id: int,
        cls_token_id: int,
        num_labels: int | None = None,
    ) -> Self:
        """The configuration of `arch` over one vocabulary.

        `pad_token_id` and `cls_token_id` are the tokenizer's own (the released configurations of BERT swap the two, which
        freezes [CLS] instead of [PAD]). Raises ValueError if `arch` is of another kind, or a token outside the vocabulary.
        """
        if arch.kind != cls.kind:
            raise ValueError(f"{arch.name} is of kind {arch.kind}, not {cls.kind}")
        for field, token in (("pad_token_id", pad_token_id), ("cls_token_id", cls_token_id)):
            if not 0 <= token < vocab_size:
                raise ValueError(f"{field}={token} is outside the vocabulary of {vocab_size} tokens")
        fields: dict[str, Any] = arch.model_dump(exclude={"name", "kind", "options", *cls.not_theirs})
        fields |= cls.settings(arch.options)
        fields |= {"vocab_size": vocab_size, "max_position_embeddings": max_position_embeddings}
        fields |= {"pad_token_id": pad_token_id, cls.first_token: cls_token_id}
        if num_labels is not None:
            fields["num_labels"] = num_labels
        return cls(**fields)

    @classmethod
    def settings(cls, options: Options) -> dict[str, Any]:
        """The fields that follow from an architecture's options, those at their default left out."""
        return options.model_dump()


class TinyBertConfig(_OfArchitecture, BertConfig):  # type: ignore[misc]
    """Fields of `BertConfig`, plus those of the conv front and of the reference code's habits.

    `conv_kernel_sizes`: (positions, hidden) of each convolution, () for none; `conv_channels`: its channels;
    `conv_over_padding`: convolve and normalise over [PAD] as the reference code does; `freeze_cls_embedding`: keep the
    word embedding of `cls_token_id` at zero, as the reference code's padding_idx=101 does. The last six are
    `tlm.modeling.options.EncoderOptions`.
    """

    model_type = "tlm_bert"
    kind: ClassVar[str] = "encoder"
    first_token: ClassVar[str] = "cls_token_id"

    conv_kernel_sizes: list[Any] | tuple[Any, ...] = ()
    conv_channels: int = 0
    conv_over_padding: bool = False
    freeze_cls_embedding: bool = False
    cls_token_id: int | None = None
    norm_position: str = "post"
    norm: str = "layer_norm"
    position_embedding_type: str = "absolute"
    rope_theta: float = 10_000.0
    bias: bool = True
    attention_head_size: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        # JSON knows only lists: both forms of one configuration must compare equal.
        self.conv_kernel_sizes = tuple(tuple(kernel) for kernel in self.conv_kernel_sizes)
        if bool(self.conv_kernel_sizes) != bool(self.conv_channels):
            raise ValueError("conv_kernel_sizes and conv_channels go together: give both or neither")
        if self.freeze_cls_embedding and self.cls_token_id is None:
            raise ValueError("freeze_cls_embedding needs cls_token_id")
        if self.attention_head_size is None:
            _check_heads(self)

    @property
    def head_width(self) -> int:
        """Of what a head reads and writes."""
        return self.attention_head_size or int(self.hidden_size // self.num_attention_heads)

    def to_diff_dict(self) -> dict[str, Any]:
        """What is saved: without the options that are BERT's own, so that a BERT's file is as it was before they came."""
        saved: dict[str, Any] = super().to_diff_dict()
        usual = dict(EncoderOptions())
        return {name: value for name, value in saved.items() if name not in usual or value != usual[name]}


class TinyGptConfig(_OfArchitecture, PreTrainedConfig):  # type: ignore[misc]
    """A GPT-2 of any width. Fields are named as BERT's here, so that one `Architecture` describes either.

    GPT-2's own are hidden_dropout_prob for resid_pdrop and embd_pdrop, attention_probs_dropout_prob for attn_pdrop, and
    layer_norm_eps for layer_norm_epsilon. `bos_token_id` begins every sequence, [CLS].
    """

    model_type = "tlm_gpt2"
    kind: ClassVar[str] = "decoder"
    first_token: ClassVar[str] = "bos_token_id"
    not_theirs: ClassVar[frozenset[str]] = frozenset(
        {"conv_kernel_sizes", "conv_channels", "conv_over_padding", "freeze_cls_embedding"}
    )

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    max_position_embeddings: int = 1024
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        _check_heads(self)


class TinyLlamaConfig(_OfArchitecture, PreTrainedConfig):  # type: ignore[misc]
    """A Llama of any width. Fields are named as BERT's here, so that one `Architecture` describes either.

    Llama's own are attention_probs_dropout_prob for attention_dropout and layer_norm_eps for rms_norm_eps; it has no
    hidden_dropout_prob. `bos_token_id` begins every sequence, [CLS], and `eos_token_id` ends it, [SEP]. Those from
    num_key_value_heads on are `tlm.modeling.options.LlamaOptions`, `sharing` as a mapping.
    """

    model_type = "tlm_llama"
    kind: ClassVar[str] = "llama"
    first_token: ClassVar[str] = "bos_token_id"
    not_theirs: ClassVar[frozenset[str]] = TinyGptConfig.not_theirs

    vocab_size: int = 30522
    hidden_size: int = 512
    num_hidden_layers: int = 8
    num_attention_heads: int = 16
    intermediate_size: int = 1320
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    max_position_embeddings: int = 512
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-6
    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    tie_word_embeddings: bool = True
    num_key_value_heads: int | None = None
    norm: str = "rms_norm"
    ffn: str = "swiglu"
    rope_theta: float = 10_000.0
    bias: bool = False
    sharing: dict[str, Any] | None = None
    exits: list[int] | tuple[int, ...] = ()
    depth_capacity: float = 1.0

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        _check_heads(self)
        self.exits = tuple(self.exits)  # of JSON it is a list
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads

    @classmethod
    def settings(cls, options: Options) -> dict[str, Any]:
        """The same, under transformers' name for tied embeddings."""
        fields = options.model_dump()
        tied = {"tie_word_embeddings": fields.pop("tie_embeddings")} if "tie_embeddings" in fields else {}
        return fields | tied

    def to_diff_dict(self) -> dict[str, Any]:
        """What is saved: without the options that came later, so that the file of a model without them is as it was."""
        saved: dict[str, Any] = super().to_diff_dict()
        plain = LlamaOptions()
        absent = {name for name in ("exits", "depth_capacity") if getattr(self, name) == getattr(plain, name)}
        return {name: value for name, value in saved.items() if name not in absent}


class TinyByteConfig(TinyLlamaConfig):
    """A Llama over patches of bytes: `byte` is `tlm.modeling.options.ByteOptions` as a mapping.

    It has no vocabulary but the bytes, and reads nothing where a text begins.
    """

    model_type = "tlm_bytes"
    kind: ClassVar[str] = "bytes"

    vocab_size: int = 258
    byte: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.byte = ByteOptions.model_validate(self.byte or {}).model_dump()


def _check_heads(config: PreTrainedConfig) -> None:
    if config.hidden_size % config.num_attention_heads:
        raise ValueError(
            f"num_attention_heads={config.num_attention_heads} does not divide hidden_size={config.hidden_size}"
        )
