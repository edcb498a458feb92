"""A BERT encoder (post-LN, learned positions) with the study's conv front, parameter for parameter transformers' own.

Shapes: B sequences, T positions, D hidden size, H heads, K = D / H, Q queried positions, F intermediate size,
V vocabulary, N selected rows of the flattened (B·T) positions.
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
from tlm.modeling.dropout import Dropout


class _RowWithoutGradient(torch.autograd.Function):
    """The identity; the gradient of one row is zero. (A hook on the parameter would not survive a reload.)"""

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

    def forward(self, input_ids_BT: Tensor) -> Tensor:
        """Token ids → (B, T, D)."""
        return F.embedding(input_ids_BT, self.as_read(), padding_idx=self.padding_idx)


class Embeddings(nn.Module):
    """Word + position + token type, normalised; dropout."""

    def __init__(self, config: TinyBertConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.word_embeddings = WordEmbeddings(config)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, size)
        self.LayerNorm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids_BT: Tensor, token_type_ids_BT: Tensor | None = None) -> Tensor:
        """Token ids → (B, T, D). Without `token_type_ids_BT` every token is of type 0."""
        length = input_ids_BT.shape[1]
        if length > self.position_embeddings.num_embeddings:
            raise ValueError(
                f"{length} positions, but the model has {self.position_embeddings.num_embeddings} "
                "(max_position_embeddings)"
            )
        x_BTD: Tensor = self.word_embeddings(input_ids_BT)
        offset = self.position_embeddings.weight[:length]
        if token_type_ids_BT is None:
            offset = offset + self.token_type_embeddings.weight[0]
        else:
            offset = offset + self.token_type_embeddings(token_type_ids_BT)
        x_BTD = self.dropout(self.LayerNorm(x_BTD + offset))
        return x_BTD


class SelfAttention(nn.Module):
    """Multi-head scaled dot-product attention."""

    def __init__(self, config: TinyBertConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = Dropout(config.attention_probs_dropout_prob)

    def forward(self, x_BQD: Tensor, x_BTD: Tensor, mask_B11T: Tensor | None) -> Tensor:
        """The context (B, Q, D) of the positions in `x_BQD`, from those in `x_BTD` where the mask is True."""
        q_BHQK = self._by_head(self.query(x_BQD))
        k_BHTK = self._by_head(self.key(x_BTD))
        v_BHTK = self._by_head(self.value(x_BTD))
        if self.training and self.dropout.p > 0 and x_BTD.device.type == "cpu":
            context_BHQK = self._with_fast_dropout(q_BHQK, k_BHTK, v_BHTK, mask_B11T)
        else:
            context_BHQK = F.scaled_dot_product_attention(
                q_BHQK, k_BHTK, v_BHTK, attn_mask=mask_B11T, dropout_p=self.dropout.p if self.training else 0.0
            )
        return context_BHQK.transpose(1, 2).flatten(2)

    def _by_head(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.view(*x_BTD.shape[:2], self.heads, -1).transpose(1, 2)

    def _with_fast_dropout(self, q_BHQK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor, mask_B11T: Tensor | None) -> Tensor:
        """The same, written out: torch's CPU attention with dropout spends most of its time drawing the mask."""
        scores_BHQT = (q_BHQK * (1 / math.sqrt(q_BHQK.shape[-1]))) @ k_BHTK.transpose(2, 3)
        if mask_B11T is not None:
            lowest = torch.finfo(torch.float32).min
            scores_BHQT = scores_BHQT + torch.zeros(mask_B11T.shape).masked_fill_(~mask_B11T, lowest)
        weights_BHQT: Tensor = self.dropout(scores_BHQT.softmax(-1))
        return weights_BHQT @ v_BHTK


class AddNorm(nn.Module):
    """dense → dropout → add the residual → LayerNorm."""

    def __init__(self, config: TinyBertConfig, in_features: int) -> None:
        super().__init__()
        self.dense = nn.Linear(in_features, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """(…, in_features) and (…, D) → (…, D)."""
        y: Tensor = self.LayerNorm(residual + self.dropout(self.dense(x)))
        return y


class Layer(nn.Module):
    """One transformer layer: attention, then the feed-forward network, each with a residual and LayerNorm."""

    def __init__(self, config: TinyBertConfig) -> None:
        super().__init__()
        self.attention = nn.ModuleDict(
            {"self": SelfAttention(config), "output": AddNorm(config, config.hidden_size)},
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.intermediate_size)})
        self.output = AddNorm(config, config.intermediate_size)

    def forward(
        self, x_BTD: Tensor, mask_B11T: Tensor | None, rows_N: Tensor | None = None, first_only: bool = False
    ) -> Tensor:
        """(B, T, D) → (B, T, D); only the rows `rows_N` of (B·T, D) → (N, D), or only position 0 → (B, 1, D).

        In the last layer the rows that no head reads need neither the feed-forward network nor, for position 0,
        queries. With one layer that is most of the model.
        """
        x = x_BTD[:, :1] if first_only else x_BTD
        context = self.attention["self"](x, x_BTD, mask_B11T)
        if rows_N is not None:
            x = x.flatten(0, 1).index_select(0, rows_N)
            context = context.flatten(0, 1).index_select(0, rows_N)
        x = self.attention["output"](context, x)
        y: Tensor = self.output(F.gelu(self.intermediate["dense"](x)), x)
        return y


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
            init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, mean=0.0, std=self.config.initializer_range)
            # A row is a new tensor, which has lost the mark that a checkpoint filled it.
            if isinstance(module, WordEmbeddings) and not getattr(module.weight, "_is_hf_initialized", False):
                for row in {module.padding_idx, module.frozen_row} - {None}:
                    init.zeros_(module.weight[row])
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
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
    """Embeddings → [conv front] → layers → [pooler of position 0]."""

    def __init__(self, config: TinyBertConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config)
        self.embeddings = Embeddings(config)
        self.conv_front = (
            ConvFront(config.conv_kernel_sizes, config.conv_channels, config.conv_over_padding)
            if config.conv_kernel_sizes
            else None
        )
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))})
        self.pooler = (
            nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.hidden_size)}) if add_pooling_layer else None
        )
        self.post_init()

    def encode(
        self,
        input_ids_BT: Tensor,
        attention_mask_BT: Tensor | None = None,
        token_type_ids_BT: Tensor | None = None,
        rows_N: Tensor | None = None,
        first_only: bool = False,
    ) -> Tensor:
        """The last layer's output: (B, T, D), or (N, D) for `rows_N`, or (B, 1, D) for `first_only`.

        `attention_mask_BT` is 1 at real positions. Selecting rows changes the work, not the values.
        Raises ValueError if there are more positions than the model knows.
        """
        x_BTD = self.embeddings(input_ids_BT, token_type_ids_BT)
        mask_BT = None if attention_mask_BT is None else attention_mask_BT.bool()
        if self.conv_front is not None:
            x_BTD = self.conv_front(x_BTD, mask_BT)
        mask_B11T = None if mask_BT is None else mask_BT[:, None, None, :]
        *earlier, last = self.encoder["layer"].children()
        for layer in earlier:
            x_BTD = layer(x_BTD, mask_B11T)
        x: Tensor = last(x_BTD, mask_B11T, rows_N, first_only)
        return x

    def pool(self, x_BTD: Tensor) -> Tensor:
        """tanh of a linear map of position 0, [CLS]: (B, …, D) → (B, D). ValueError without a pooler."""
        if self.pooler is None:
            raise ValueError("this model has no pooler (add_pooling_layer=False)")
        return torch.tanh(self.pooler["dense"](x_BTD[:, 0]))

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None, **_: Any
    ) -> BaseModelOutputWithPooling:
        """`last_hidden_state` (B, T, D) and `pooler_output` (B, D), or None without a pooler."""
        x_BTD = self.encode(input_ids, attention_mask, token_type_ids)
        return BaseModelOutputWithPooling(
            last_hidden_state=x_BTD, pooler_output=None if self.pooler is None else self.pool(x_BTD)
        )
