"""A GPT-2 decoder (pre-LN, learned positions), parameter for parameter transformers' own but for transposed weights.

Its linear maps are (out, in) as everywhere here, where transformers' Conv1D has (in, out): `tlm.modeling.gpt2` converts.

Shapes: B sequences, T positions, R rows of a batch in its layout, D hidden size, F intermediate size.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput

from tlm.modeling.attention import attention
from tlm.modeling.configuration import TinyGptConfig
from tlm.modeling.encoder import flat
from tlm.modeling.layout import Layout


class Projection(nn.Linear):
    """Onto the residual stream. Every layer adds to it twice: initial weights are the smaller the more layers there are."""


class CausalAttention(nn.Module):
    """Multi-head scaled dot-product attention to what came before, and its projection."""

    def __init__(self, config: TinyGptConfig) -> None:
        super().__init__()
        self.heads, self.size = config.num_attention_heads, config.hidden_size
        self.c_attn = nn.Linear(self.size, 3 * self.size)
        self.c_proj = Projection(self.size, self.size)
        self.attn_dropout = nn.Dropout(config.attention_probs_dropout_prob)
        self.resid_dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x_RD: Tensor, layout: Layout, last_B: Tensor | None = None) -> Tensor:
        """(R, D) → (R, D), or (B, D) for the last token of each sequence, which stands in row `last_B`."""
        p = self.attn_dropout.p if self.training else 0.0
        if last_B is None:
            q_RD, k_RD, v_RD = self.c_attn(x_RD).chunk(3, dim=-1)
            context = attention(q_RD, k_RD, v_RD, layout, self.heads, p=p, causal=True)
        else:
            weight, bias, size = self.c_attn.weight, self.c_attn.bias, self.size
            q_BD = F.linear(x_RD.index_select(0, last_B), weight[:size], bias[:size])
            k_RD, v_RD = F.linear(x_RD, weight[size:], bias[size:]).chunk(2, dim=-1)
            # Nothing comes after the last token: it sees all of its sequence.
            context = attention(q_BD, k_RD, v_RD, layout, self.heads, each=1, p=p)
        y: Tensor = self.resid_dropout(self.c_proj(context))
        return y


class FeedForward(nn.Module):
    """Two linear maps with GPT-2's GELU (its tanh approximation) in between."""

    def __init__(self, config: TinyGptConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.hidden_size, config.intermediate_size)
        self.c_proj = Projection(config.intermediate_size, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x_RD: Tensor) -> Tensor:
        """(R, D) → (R, D)."""
        y_RD: Tensor = self.dropout(self.c_proj(F.gelu(self.c_fc(x_RD), approximate="tanh")))
        return y_RD


class Block(nn.Module):
    """One layer: attention, then the feed-forward network, each on normalised input and added to what came in."""

    def __init__(self, config: TinyGptConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attn = CausalAttention(config)
        self.ln_2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = FeedForward(config)

    def forward(self, x_RD: Tensor, layout: Layout, last_B: Tensor | None = None) -> Tensor:
        """(R, D) → (R, D), or (B, D), only the last token of each sequence."""
        context = self.attn(self.ln_1(x_RD), layout, last_B)
        x = context + (x_RD if last_B is None else x_RD.index_select(0, last_B))
        y: Tensor = x + self.mlp(self.ln_2(x))
        return y


class TinyGptPreTrainedModel(PreTrainedModel):  # type: ignore[misc]
    """Initialisation (GPT-2's) and loading, shared by every head."""

    config_class = TinyGptConfig
    base_model_prefix = "transformer"
    _supports_sdpa = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # transformers' init functions leave alone what a checkpoint has already filled.
        if isinstance(module, (nn.Linear, nn.Embedding)):
            narrower = math.sqrt(2 * self.config.num_hidden_layers) if isinstance(module, Projection) else 1.0
            init.normal_(module.weight, mean=0.0, std=self.config.initializer_range / narrower)
            if getattr(module, "bias", None) is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)

    def get_input_embeddings(self) -> nn.Module:
        """The token embeddings, which the language model's head shares."""
        words: nn.Module = self.base_model.get_submodule("wte")
        return words


class TinyGptModel(TinyGptPreTrainedModel):
    """Embeddings → layers → LayerNorm."""

    def __init__(self, config: TinyGptConfig) -> None:
        super().__init__(config)
        self.wte = nn.Embedding(config.vocab_size, config.hidden_size)
        self.wpe = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.drop = nn.Dropout(config.hidden_dropout_prob)
        self.h = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.ln_f = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    def decode(self, ids_R: Tensor, layout: Layout, *, last: bool = False) -> Tensor:
        """The normalised output of the last layer: (R, D), or with `last` (B, D), that of each sequence's last token.

        With `last` the last layer computes no other row: with one layer that is most of the model. In the layout padding
        must follow the tokens. ValueError if there are more positions than the model knows.
        """
        layout.require(self.config.max_position_embeddings)
        x: Tensor = self.drop(self.wte(ids_R) + self.wpe(layout.positions_R))
        *earlier, final = self.h.children()
        for block in earlier:
            x = block(x, layout)
        y: Tensor = self.ln_f(final(x, layout, layout.last_rows() if last else None))
        return y

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> BaseModelOutput:
        """`last_hidden_state` (B, T, D). ValueError if a token follows padding."""
        ids_R, layout = flat_causal(input_ids, attention_mask)
        return BaseModelOutput(last_hidden_state=self.decode(ids_R, layout).view(*input_ids.shape, -1))


def flat_causal(ids_BT: Tensor, mask_BT: Tensor | None) -> tuple[Tensor, Layout]:
    """What transformers' users call a model with, as what `decode` takes. ValueError if a token follows padding."""
    if mask_BT is not None and bool((mask_BT.long().diff(dim=1) > 0).any()):
        raise ValueError("attention_mask: padding must follow the tokens (padding_side='right')")
    ids_R, layout, _ = flat(ids_BT, mask_BT, None)
    return ids_R, layout
