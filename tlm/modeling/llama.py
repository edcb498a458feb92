"""A decoder of the Llama kind (Touvron et al. 2023, arXiv 2302.13971): normalised before each part of a layer, positions by
rotation, a gated feed-forward network. Unless its options say otherwise (`tlm.modeling.options`), it is transformers' own,
parameter for parameter; its dropout of hidden states is GPT-2's.

Shapes: B sequences, T positions, R rows of a batch in its layout, M rows of it or one for each sequence, D hidden size,
H heads of queries, K size of a head, F intermediate size.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput

from tlm.modeling.attention import attention
from tlm.modeling.configuration import TinyLlamaConfig
from tlm.modeling.decoder import flat_causal
from tlm.modeling.layers import Rotation, norm_of, rotated, turn_of
from tlm.modeling.layout import Layout
from tlm.modeling.options import Sharing, is_routed
from tlm.modeling.sharing import Adapted, maps, shared_weights

FOLLOWS = 0.1
"""How far the threshold of a routed layer moves in a step towards the quantile of that step."""


class Maps:
    """The linear maps of one layer: of those that it shares, each with a part of its own if there is one."""

    def __init__(self, config: TinyLlamaConfig, layer: int) -> None:
        self.bias = config.bias
        sharing = sharing_of(config)
        shares = sharing is not None and layer in sharing.layers(config.num_hidden_layers)
        self.sharing = sharing if shares else None

    def __call__(self, name: str, inputs: int, outputs: int) -> nn.Linear:
        """The map of that name within the layer."""
        sharing = self.sharing
        if sharing is None or sharing.lora_rank is None or not sharing.covers(f"{name}."):
            return nn.Linear(inputs, outputs, bias=self.bias)
        return Adapted(inputs, outputs, bias=self.bias, rank=sharing.lora_rank, alpha=sharing.lora_alpha)


class GroupedAttention(nn.Module):
    """Scaled dot-product attention to what came before, several heads of queries to one of keys and values (Ainslie et al.
    2023, arXiv 2305.13245), and its projection."""

    def __init__(self, config: TinyLlamaConfig, linear: Maps) -> None:
        super().__init__()
        size, kept = config.hidden_size, config.num_key_value_heads or config.num_attention_heads
        self.heads, self.groups = config.num_attention_heads, config.num_attention_heads // kept
        self.q_proj = linear("self_attn.q_proj", size, size)
        self.k_proj = linear("self_attn.k_proj", size, size // self.groups)
        self.v_proj = linear("self_attn.v_proj", size, size // self.groups)
        self.o_proj = linear("self_attn.o_proj", size, size)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def forward(self, x_RD: Tensor, layout: Layout, turn: Rotation, last_B: Tensor | None = None) -> Tensor:
        """(R, D) → (R, D), or (B, D) for the last token of each sequence, which stands in row `last_B`."""
        p = self.dropout.p if self.training else 0.0
        if last_B is None:
            q_MD, k_RD, v_RD = maps(x_RD, self.q_proj, self.k_proj, self.v_proj)
            q_turn = turn
        else:
            k_RD, v_RD = maps(x_RD, self.k_proj, self.v_proj)
            q_MD = self.q_proj(x_RD.index_select(0, last_B))
            cos, sin = (each.index_select(0, last_B) for each in turn)
            q_turn = cos, sin
        q_MD = rotated(q_MD, q_turn, self.heads)
        k_RD = self._for_each_query(rotated(k_RD, turn, self.heads // self.groups))
        v_RD = self._for_each_query(v_RD)
        # Nothing comes after the last token: it sees all of its sequence.
        only = {"causal": True} if last_B is None else {"each": 1}
        y_MD: Tensor = self.o_proj(attention(q_MD, k_RD, v_RD, layout, self.heads, p=p, **only))
        return y_MD

    def _for_each_query(self, x_RD: Tensor) -> Tensor:
        """Keys or values, each head as often as heads of queries read it: (R, D / groups) → (R, D)."""
        if self.groups == 1:
            return x_RD
        heads = self.heads // self.groups
        x_RHGK = x_RD.view(len(x_RD), heads, 1, -1).expand(-1, -1, self.groups, -1)
        return x_RHGK.reshape(len(x_RD), -1)


class GatedFeedForward(nn.Module):
    """SwiGLU (Shazeer 2020, arXiv 2002.05202): what goes up is multiplied by a gate before it comes down."""

    def __init__(self, config: TinyLlamaConfig, linear: Maps) -> None:
        super().__init__()
        self.gate_proj = linear("mlp.gate_proj", config.hidden_size, config.intermediate_size)
        self.up_proj = linear("mlp.up_proj", config.hidden_size, config.intermediate_size)
        self.down_proj = linear("mlp.down_proj", config.intermediate_size, config.hidden_size)

    def forward(self, x_MD: Tensor) -> Tensor:
        """(M, D) → (M, D)."""
        gate_MF, up_MF = maps(x_MD, self.gate_proj, self.up_proj)
        y_MD: Tensor = self.down_proj(F.silu(gate_MF) * up_MF)
        return y_MD


class FeedForward(nn.Module):
    """Two linear maps with a GELU in between."""

    def __init__(self, config: TinyLlamaConfig, linear: Maps) -> None:
        super().__init__()
        self.up_proj = linear("mlp.up_proj", config.hidden_size, config.intermediate_size)
        self.down_proj = linear("mlp.down_proj", config.intermediate_size, config.hidden_size)

    def forward(self, x_MD: Tensor) -> Tensor:
        """(M, D) → (M, D)."""
        y_MD: Tensor = self.down_proj(F.gelu(self.up_proj(x_MD)))
        return y_MD


class LlamaLayer(nn.Module):
    """Attention, then the feed-forward network, each on normalised input and added to what came in."""

    def __init__(self, config: TinyLlamaConfig, layer: int) -> None:
        super().__init__()
        linear = Maps(config, layer)
        self.input_layernorm = norm_of(config)
        self.self_attn = GroupedAttention(config, linear)
        self.post_attention_layernorm = norm_of(config)
        self.mlp = (GatedFeedForward if config.ffn == "swiglu" else FeedForward)(config, linear)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x_RD: Tensor, layout: Layout, turn: Rotation, last_B: Tensor | None = None) -> Tensor:
        """(R, D) → (R, D), or (B, D), only the last token of each sequence."""
        context = self.dropout(self.self_attn(self.input_layernorm(x_RD), layout, turn, last_B))
        x_MD = context + (x_RD if last_B is None else x_RD.index_select(0, last_B))
        y_MD: Tensor = x_MD + self.dropout(self.mlp(self.post_attention_layernorm(x_MD)))
        return y_MD


class RoutedLayer(LlamaLayer):
    """A layer through which only some tokens go, the others pass it by (mixture of depths: Raposo et al. 2024, arXiv
    2404.02258). It sees none of those.

    Who goes is not the best of a sequence, which would look ahead, but whoever scores above a threshold: the running mean
    of the quantile above which `depth_capacity` of the tokens of a training step were. So no route, in training neither,
    depends on what comes later. What the layer adds is multiplied by the sigmoid of the score, by which the router learns.
    """

    threshold: Tensor

    def __init__(self, config: TinyLlamaConfig, layer: int) -> None:
        super().__init__(config, layer)
        self.capacity = config.depth_capacity
        self.router = nn.Linear(config.hidden_size, 1, bias=False)
        self.register_buffer("threshold", torch.zeros(()))

    def forward(self, x_RD: Tensor, layout: Layout, turn: Rotation, last_B: Tensor | None = None) -> Tensor:
        """(R, D) → (R, D), or (B, D), only the last token of each sequence."""
        # Elementwise, and so in float32 under autocast too: scores that are rounded would tie with the threshold.
        scores_R = (self.input_layernorm(x_RD).float() * self.router.weight.float()).sum(dim=1)
        rows_M, inner = layout.only((scores_R > self.threshold) & layout.real_R)
        if self.training:
            self._follow(scores_R.detach()[layout.real_R])
        y_RD = x_RD
        if len(rows_M):
            cos, sin = (each.index_select(0, rows_M) for each in turn)
            x_MD = x_RD.index_select(0, rows_M)
            added_MD = super().forward(x_MD, inner, (cos, sin)) - x_MD
            gated_MD = scores_R.index_select(0, rows_M).sigmoid()[:, None] * added_MD
            kept = inner.real_R.nonzero().squeeze(1)
            y_RD = x_RD.index_add(0, rows_M[kept], gated_MD[kept].to(x_RD.dtype))
        return y_RD if last_B is None else y_RD.index_select(0, last_B)

    @torch.no_grad()
    def _follow(self, scores_N: Tensor) -> None:
        below = max(1, round((1 - self.capacity) * len(scores_N)))
        self.threshold.lerp_(scores_N.kthvalue(below).values, FOLLOWS)


def layer_of(config: TinyLlamaConfig, layer: int) -> LlamaLayer:
    """A model's layer of that number, from 0."""
    return (RoutedLayer if is_routed(config, layer) else LlamaLayer)(config, layer)


class TinyLlamaPreTrainedModel(PreTrainedModel):  # type: ignore[misc]
    """Initialisation (Llama's: normal of 0.02, whatever the layer) and loading, shared by every head."""

    config_class = TinyLlamaConfig
    base_model_prefix = "model"
    _supports_sdpa = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # transformers' init functions leave alone what a checkpoint has already filled.
        if isinstance(module, (nn.Linear, nn.Embedding)):
            init.normal_(module.weight, mean=0.0, std=self.config.initializer_range)
            if getattr(module, "bias", None) is not None:
                init.zeros_(module.bias)
        elif isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
            init.ones_(module.weight)
            if getattr(module, "bias", None) is not None:
                init.zeros_(module.bias)
        if isinstance(module, Adapted):
            init.kaiming_uniform_(module.lora_A, a=math.sqrt(5))
            init.zeros_(module.lora_B)

    def get_input_embeddings(self) -> nn.Module:
        """The token embeddings, which the language model's head may share."""
        words: nn.Module = self.base_model.get_submodule("embed_tokens")
        return words


class LlamaCore(TinyLlamaPreTrainedModel):
    """Layers → normalisation, over whatever vectors a subclass makes."""

    dropout: nn.Dropout
    layers: nn.ModuleList
    norm: nn.Module

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        """What transformers ties, and counts as one when it loads and saves: the weights that layers have in common."""
        sharing = sharing_of(self.config)
        tied = shared_weights(self.layers, sharing) if sharing else ()
        return {f"layers.{theirs}": f"layers.{first}" for theirs, first in tied}

    def through(self, x_RD: Tensor, layout: Layout, *, last: bool = False) -> Tensor:
        """The normalised output of the last layer: (R, D), or with `last` (B, D), that of each sequence's last row.

        With `last` the last layer computes no other row. In the layout padding must follow what is real. ValueError if
        there are more positions than the model knows.
        """
        layout.require(self.config.max_position_embeddings)
        turn = turn_of(layout, self.config.hidden_size // self.config.num_attention_heads, self.config.rope_theta)
        x = self.dropout(x_RD)
        *earlier, final = self.layers.children()
        for layer in earlier:
            x = layer(x, layout, turn)
        y: Tensor = self.norm(final(x, layout, turn, layout.last_rows() if last else None))
        return y

    def after(self, x_RD: Tensor, layout: Layout, depths: Collection[int]) -> Iterator[Tensor]:
        """The normalised output, (R, D), after each of these numbers of layers; after all of them it is that of `through`.

        ValueError as there.
        """
        layout.require(self.config.max_position_embeddings)
        turn = turn_of(layout, self.config.hidden_size // self.config.num_attention_heads, self.config.rope_theta)
        x_RD = self.dropout(x_RD)
        for depth, layer in enumerate(self.layers.children(), start=1):
            x_RD = layer(x_RD, layout, turn)
            if depth in depths:
                yield self.norm(x_RD)


class TinyLlamaModel(LlamaCore):
    """Embeddings → layers → normalisation."""

    def __init__(self, config: TinyLlamaConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList(layer_of(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = norm_of(config)
        self.post_init()

    def decode(self, ids_R: Tensor, layout: Layout, *, last: bool = False) -> Tensor:
        """`through` of the tokens' embeddings: (R, D), or with `last` (B, D)."""
        return self.through(self.embed_tokens(ids_R), layout, last=last)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> BaseModelOutput:
        """`last_hidden_state` (B, T, D). ValueError if a token follows padding."""
        ids_R, layout = flat_causal(input_ids, attention_mask)
        return BaseModelOutput(last_hidden_state=self.decode(ids_R, layout).view(*input_ids.shape, -1))


def sharing_of(config: TinyLlamaConfig) -> Sharing | None:
    """What the layers of a model have in common."""
    return None if config.sharing is None else Sharing.model_validate(config.sharing)
