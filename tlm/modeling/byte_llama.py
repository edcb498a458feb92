"""A model of bytes: patches are pooled into vectors, a decoder of the Llama kind reads these, and a head predicts the bytes
of the next patch (arXiv 2405.14159, "byte-level models with a pooling mechanism").

Shapes: B texts, T positions, R rows of texts, S patches, C rows of the core, D hidden size, N predicting rows,
V = 257, the bytes and the end of a patch; L labels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.modeling_outputs import CausalLMOutput, SequenceClassifierOutput

from tlm.data.byte_patches import EOP
from tlm.modeling.byte_modules import HEADS, PREDICTED, PatchEncoder
from tlm.modeling.configuration import TinyByteConfig
from tlm.modeling.decoder import flat_causal
from tlm.modeling.layers import norm_of
from tlm.modeling.layout import Queries
from tlm.modeling.llama import LlamaCore, LlamaLayer, TinyLlamaPreTrainedModel
from tlm.modeling.loss import IGNORED_LABEL, linear_cross_entropy
from tlm.modeling.options import ByteOptions
from tlm.modeling.packing import rectangle_cost
from tlm.modeling.patches import PatchLayout


class TinyBytePreTrainedModel(TinyLlamaPreTrainedModel):
    """Initialisation and loading, shared by every head."""

    config_class = TinyByteConfig

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, TinyByteModel):
            init.normal_(module.begin, mean=0.0, std=self.config.initializer_range)

    def get_input_embeddings(self) -> nn.Module:
        """The embeddings of the bytes."""
        embeddings: nn.Module = self.base_model.get_submodule("encoder.bytes")
        return embeddings


class TinyByteModel(TinyBytePreTrainedModel, LlamaCore):
    """Patches → vectors → layers → normalisation. What stands for the begin of a text is learned."""

    def __init__(self, config: TinyByteConfig) -> None:
        super().__init__(config)
        self.begin = nn.Parameter(torch.empty(config.hidden_size))
        self.encoder = PatchEncoder(config, byte_of(config))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList(LlamaLayer(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = norm_of(config)
        self.post_init()

    def states(self, ids_R: Tensor, layout: PatchLayout, *, last: bool = False) -> Tensor:
        """What each patch is predicted from, (S, D): the core's output for all before it; with `last`, (B, D), for all of
        each text, in the order of the layout.

        ValueError if there are more patches than the model knows, or one is too long for it.
        """
        patches_SD = self.encoder(ids_R, layout)
        x_CD = torch.cat([patches_SD, self.begin[None].to(patches_SD.dtype)]).index_select(0, layout.patch_C)
        states = self.through(x_CD, layout.core, last=last)
        return states.index_select(0, layout.last_B if last else layout.before_S)


class TinyByteForCausalLM(TinyBytePreTrainedModel):
    """The model with a head that predicts the bytes of each patch, and its end."""

    head: Any

    def __init__(self, config: TinyByteConfig) -> None:
        super().__init__(config)
        byte = byte_of(config)
        self.patch_bytes = byte.patch_bytes
        self.model = TinyByteModel(config)
        self.head = HEADS[byte.head](config, byte)
        self.post_init()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **_: Any
    ) -> CausalLMOutput:
        """Without labels: logits (B, T, V) of the id that follows each. With labels (B, T), each the id of its own position
        and -100 where nothing is predicted: the mean cross entropy as `loss`, 0 if there is none, and no logits.

        What stands at the first position of a text is not read. ValueError if a token follows padding.
        """
        ids_BT, mask_BT = closed(input_ids, attention_mask)
        ids_R, flat = flat_causal(ids_BT, mask_BT)
        layout = patched(ids_R, flat, self.config)
        if labels is None:
            rows_BT = torch.arange(ids_BT.numel(), device=ids_BT.device).view(ids_BT.shape)[:, :-1]
            logits_NV = self._logits(ids_R, layout, rows_BT.flatten())
            return CausalLMOutput(logits=logits_NV.view(*input_ids.shape, -1))
        next_R = F.pad(labels[:, 1:], (0, 2), value=IGNORED_LABEL).flatten()
        rows_N = (next_R != IGNORED_LABEL).nonzero().squeeze(1)
        return CausalLMOutput(loss=self.loss(ids_R, layout, Queries.of(flat, rows_N), next_R[rows_N]))

    def loss(self, ids_R: Tensor, layout: PatchLayout, queries: Queries, labels_N: Tensor) -> Tensor:
        """Mean cross entropy of the queried rows, 0 for none; a row's label is the id that follows it."""
        if not len(labels_N):
            return self.head.projection.sum() * 0.0
        rows_N = queries.rows_N + 1
        free_N = ~self._full(layout, rows_N)
        x_NW = self.head(ids_R, layout, self.model.states(ids_R, layout), rows_N)[free_N]
        if not len(x_NW):
            return x_NW.sum() * 0.0
        share = len(x_NW) / len(labels_N)
        return share * linear_cross_entropy(x_NW, self.head.projection, None, labels_N[free_N])

    def logits(self, ids_R: Tensor, layout: PatchLayout, queries: Queries) -> Tensor:
        """Logits (N, V) of the id that follows each queried row; -inf for a byte where a patch is full and must end."""
        return self._logits(ids_R, layout, queries.rows_N)

    def _logits(self, ids_R: Tensor, layout: PatchLayout, rows_N: Tensor) -> Tensor:
        rows_N = rows_N + 1
        x_NW = self.head(ids_R, layout, self.model.states(ids_R, layout), rows_N)
        logits_NV = F.linear(x_NW, self.head.projection)
        byte_V = torch.arange(PREDICTED, device=logits_NV.device) != EOP
        return logits_NV.masked_fill(self._full(layout, rows_N)[:, None] & byte_V, -torch.inf)

    def _full(self, layout: PatchLayout, rows_N: Tensor) -> Tensor:
        """Whether the patch of each row has all its bytes before it."""
        return layout.bytes.positions_R[layout.row_R[rows_N]] == self.patch_bytes - 1


class TinyByteForSequenceClassification(TinyBytePreTrainedModel):
    """The model with a linear head without a bias on the core's output at the end of each text."""

    def __init__(self, config: TinyByteConfig) -> None:
        super().__init__(config)
        self.num_labels = len(config.id2label or ())
        self.model = TinyByteModel(config)
        self.score = nn.Linear(config.hidden_size, self.num_labels, bias=False)
        self.post_init()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **_: Any
    ) -> SequenceClassifierOutput:
        """Logits (B, L), and with labels (B,) the mean cross entropy as `loss`. ValueError if a token follows padding.

        A text is [begin] bytes and ends [end]; what stands at its first position is not read.
        """
        ids_R, flat = flat_causal(input_ids, attention_mask)
        logits_BL = self.logits(ids_R, patched(ids_R, flat, self.config))
        loss = None if labels is None else F.cross_entropy(logits_BL, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits_BL)

    def loss(self, ids_R: Tensor, layout: PatchLayout, labels_B: Tensor) -> Tensor:
        """Mean cross entropy of the texts, in the order of the layout."""
        return F.cross_entropy(self.logits(ids_R, layout), labels_B, reduction="none").mean()

    def logits(self, ids_R: Tensor, layout: PatchLayout) -> Tensor:
        """Logits (B, L) of the texts, in the order of the layout."""
        logits_BL: Tensor = self.score(self.model.states(ids_R, layout, last=True))
        return logits_BL


def byte_of(config: TinyByteConfig) -> ByteOptions:
    """What is below and above a model's core."""
    return ByteOptions.model_validate(config.byte)


def patched(ids_R: Tensor, layout: Any, config: TinyByteConfig) -> PatchLayout:
    """Texts in one rectangle, with their patches."""
    device = ids_R.device.type
    costs = rectangle_cost(byte_of(config).width, device), rectangle_cost(config.hidden_size, device)
    return PatchLayout.of(ids_R, layout.to("cpu"), costs).to(ids_R.device)


def closed(ids_BT: Tensor, mask_BT: Tensor | None) -> tuple[Tensor, Tensor]:
    """Each text with an end behind it, so that what may come next has a place: ids and mask, (B, T + 1)."""
    mask_BT = torch.ones_like(ids_BT) if mask_BT is None else mask_BT.long()
    ends_B1 = mask_BT.sum(dim=1, keepdim=True)
    one = torch.ones_like(ends_B1)
    return F.pad(ids_BT, (0, 1), value=EOP).scatter(1, ends_B1, one * EOP), F.pad(mask_BT, (0, 1)).scatter(
        1, ends_B1, one
    )
