"""The configuration of a tiny BERT: transformers' BERT plus the conv front."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import BertConfig

if TYPE_CHECKING:
    from tlm.config import Architecture


class TinyBertConfig(BertConfig):  # type: ignore[misc]
    """Fields of `BertConfig`, plus those of the conv front and of the reference code's habits.

    `conv_kernel_sizes`: (positions, hidden) of each convolution, () for none; `conv_channels`: its channels;
    `conv_over_padding`: convolve and normalise over [PAD] as the reference code does; `freeze_cls_embedding`: keep the
    word embedding of `cls_token_id` at zero, as the reference code's padding_idx=101 does.
    """

    model_type = "tlm_bert"

    conv_kernel_sizes: list[Any] | tuple[Any, ...] = ()
    conv_channels: int = 0
    conv_over_padding: bool = False
    freeze_cls_embedding: bool = False
    cls_token_id: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        # JSON knows only lists: both forms of one configuration must compare equal.
        self.conv_kernel_sizes = tuple(tuple(kernel) for kernel in self.conv_kernel_sizes)
        if bool(self.conv_kernel_sizes) != bool(self.conv_channels):
            raise ValueError("conv_kernel_sizes and conv_channels go together: give both or neither")
        if self.freeze_cls_embedding and self.cls_token_id is None:
            raise ValueError("freeze_cls_embedding needs cls_token_id")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads={self.num_attention_heads} does not divide hidden_size={self.hidden_size}"
            )

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
    ) -> TinyBertConfig:
        """The configuration of `arch` over one vocabulary.

        `pad_token_id` and `cls_token_id` are the tokenizer's own (the released configurations swap the two, which
        freezes [CLS] instead of [PAD]). Raises ValueError if either is outside the vocabulary.
        """
        for field, token in (("pad_token_id", pad_token_id), ("cls_token_id", cls_token_id)):
            if not 0 <= token < vocab_size:
                raise ValueError(f"{field}={token} is outside the vocabulary of {vocab_size} tokens")
        fields: dict[str, Any] = arch.model_dump(exclude={"name"})
        if num_labels is not None:
            fields["num_labels"] = num_labels
        return cls(
            vocab_size=vocab_size,
            max_position_embeddings=max_position_embeddings,
            pad_token_id=pad_token_id,
            cls_token_id=cls_token_id,
            **fields,
        )
