"""A BERT encoder with the study's conv front. Unless its options say otherwise (`tlm.modeling.options`), it is
post-LN with learned positions, parameter for parameter transformers' own.

Shapes: B sequences, T positions, R rows of a batch in its layout, N queried rows, D hidden size, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling

from tlm.modeling.configuration import TinyBertConfig
from tlm.modeling.conv_front import ConvFront
from tlm.modeling.layers import Layer, PreNormLayer, norm_of, rotation
from tlm.modeling.layout import Layout, Queries


class _RowWithoutGradient(torch.autograd.Function):
    """The identity, except that one row's gradient is zero. (A hook on the parameter would not survive a reload.)"""

    @staticmethod
    def forward(ctx: Any, weight_VD: Tensor, row: int) -> Tensor:
        ctx.row = row
        return weight_VD.view_as(weight_VD)

    @staticmethod
    def backward(ctx: Any, grad_VD: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        grad_VD = grad_VD.clone()
        grad_VD[ctx.row] = 0.0
        return grad_VD, None


class WordEmbeddings(nn.Embedding):
    """Token embeddings, shared with the MLM head. `frozen_row` (the reference code's [CLS]) is zero and stays so."""

    def __init__(self, config: TinyBertConfig) -> None:
        super().__init__(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.frozen_row = config.cls_token_id if config.freeze_cls_embedding else None

    def as_read(self) -> Tensor:
        """(V, D), the weight as the model reads it: the frozen row gets no gradient, from the MLM head either."""
        if self.frozen_row is None:
            return self.weight
        weight_VD: Tensor = _RowWithoutGradient.apply(self.weight, self.frozen_row)  # type: ignore[no-untyped-call]
        return weight_VD

    def forward(self, ids_R: Tensor) -> Tensor:
        """Token ids → (R, D)."""
        return F.embedding(ids_R, self.as_read(), padding_idx=self.padding_idx)


class Embeddings(nn.Module):
    """Word + position (where positions are learned) + token type, normalised; dropout."""

    def __init__(self, config: TinyBertConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.word_embeddings = WordEmbeddings(config)
        self.positions = config.max_position_embeddings
        learned = config.position_embedding_type == "absolute"
        self.position_embeddings = nn.Embedding(self.positions, size) if learned else None
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, size)
        self.LayerNorm = norm_of(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, ids_R: Tensor, layout: Layout, types_R: Tensor | None = None) -> Tensor:
        """Token ids → (R, D). Without `types_R` every token is of type 0. ValueError if there are too many positions."""
        layout.require(self.positions)
        x_RD = self.word_embeddings(ids_R)
        if self.position_embeddings is not None:
            x_RD = x_RD + self.position_embeddings(layout.positions_R)
        if types_R is None:
            x_RD = x_RD + self.token_type_embeddings.weight[0]
        else:
            x_RD = x_RD + self.token_type_embeddings(types_R)
        y_RD: Tensor = self.dropout(self.LayerNorm(x_RD))
        return y_RD


class TinyBertPreTrainedModel(PreTrainedModel):  # type: ignore[misc]
    """Initialisation (BERT's: normal of 0.02, zero biases, a zero [PAD] row) and loading, shared by every head."""

    config_class = TinyBertConfig
    base_model_prefix = "bert"
    _supports_sdpa = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # transformers' init functions leave alone what a checkpoint has already filled.
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, mean=0.0, std=self.config.initializer_range)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, mean=0.0, std=self.config.initializer_range)
            # A row is a new tensor, which has lost the mark that a checkpoint filled it.
            if isinstance(module, WordEmbeddings) and not getattr(module.weight, "_is_hf_initialized", False):
                for row in {module.padding_idx, module.frozen_row} - {None}:
                    init.zeros_(module.weight[row])
        elif isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
            init.ones_(module.weight)
            if getattr(module, "bias", None) is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            # torch's default, as in the reference code: its transformers left Conv2d alone.
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
        elif isinstance(module, nn.BatchNorm2d):
            init.ones_(module.weight)
            init.zeros_(module.bias)
            for name, buffer in module.named_buffers():
                (init.ones_ if name == "running_var" else init.zeros_)(buffer)

    def get_input_embeddings(self) -> nn.Module:
        """The word embeddings, shared with the MLM head."""
        words: nn.Module = self.base_model.get_submodule("embeddings.word_embeddings")
        return words


class TinyBertModel(TinyBertPreTrainedModel):
    """Embeddings → [conv front] → layers → [normalisation, if they have it before them] → [pooler of position 0]."""

    def __init__(self, config: TinyBertConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config)
        self.embeddings = Embeddings(config)
        self.conv_front = (
            ConvFront(config.conv_kernel_sizes, config.conv_channels, config.conv_over_padding)
            if config.conv_kernel_sizes
            else None
        )
        before = config.norm_position == "pre"
        kind = PreNormLayer if before else Layer
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(kind(config) for _ in range(config.num_hidden_layers))})
        self.LayerNorm = norm_of(config) if before else None
        size = config.hidden_size
        self.pooler = nn.ModuleDict({"dense": nn.Linear(size, size, bias=config.bias)}) if add_pooling_layer else None
        self.post_init()

    def encode(
        self, ids_R: Tensor, layout: Layout, queries: Queries | None = None, types_R: Tensor | None = None
    ) -> Tensor:
        """The last layer's output, in the end normalised: (R, D), or (N, D) for the rows that are queried.

        Neither the layout nor the queries change a value, only the work. ValueError if there are more positions than
        the model knows.
        """
        x_RD = self.embeddings(ids_R, layout, types_R)
        if self.conv_front is not None:
            x_RD = self.conv_front(x_RD, layout)
        turn = rotation(self.config, layout)
        *earlier, last = self.encoder["layer"].children()
        for layer in earlier:
            x_RD = layer(x_RD, layout, None, turn)
        x: Tensor = last(x_RD, layout, queries, turn)
        return x if self.LayerNorm is None else self.LayerNorm(x)

    def pool(self, first_BD: Tensor) -> Tensor:
        """tanh of a linear map of position 0, [CLS]: (B, D) → (B, D). ValueError without a pooler."""
        if self.pooler is None:
            raise ValueError("this model has no pooler (add_pooling_layer=False)")
        return torch.tanh(self.pooler["dense"](first_BD))

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None, **_: Any
    ) -> BaseModelOutputWithPooling:
        """`last_hidden_state` (B, T, D) and `pooler_output` (B, D), or None without a pooler."""
        ids_R, layout, types_R = flat(input_ids, attention_mask, token_type_ids)
        x_BTD = self.encode(ids_R, layout, types_R=types_R).view(*input_ids.shape, -1)
        return BaseModelOutputWithPooling(
            last_hidden_state=x_BTD, pooler_output=None if self.pooler is None else self.pool(x_BTD[:, 0])
        )


def flat(ids_BT: Tensor, mask_BT: Tensor | None, types_BT: Tensor | None) -> tuple[Tensor, Layout, Tensor | None]:
    """What transformers' users call a model with, as what `encode` takes: one rectangle that keeps its padding."""
    if mask_BT is None:
        layout = Layout.padded(torch.ones_like(ids_BT, dtype=torch.bool), masked=False)
    else:
        layout = Layout.padded(mask_BT.bool())
    return ids_BT.flatten(), layout, None if types_BT is None else types_BT.flatten()
