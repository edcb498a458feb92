"""What a model of bytes has within a patch: an encoder that pools it into one vector, and heads that predict its bytes.

Blocks are normalised before each part (RMSNorm), have no biases and learn their positions, as those of arXiv 2405.14159.
A patch that is full can only end, which costs no loss; nothing ever predicts padding.

Shapes: R rows of texts, S patches, Q rows of the patches' layout, P ids of a patch at most, W width, D hidden size,
N predicted rows, V = 257, the bytes and the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tlm.data.byte_patches import EOP, SIZE
from tlm.modeling.attention import attention
from tlm.modeling.layers import RmsNorm, projections
from tlm.modeling.layout import Layout, Rectangle
from tlm.modeling.options import ByteOptions

if TYPE_CHECKING:
    from tlm.modeling.configuration import TinyByteConfig
    from tlm.modeling.patches import PatchLayout

PREDICTED = EOP + 1
"""V."""


class ByteBlock(nn.Module):
    """Attention within a patch, then two linear maps with a GELU in between.

    The second may widen: there is then no residual to add to.
    """

    def __init__(self, config: TinyByteConfig, size: int, outputs: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.input_layernorm = RmsNorm(size, eps=config.layer_norm_eps)
        self.q_proj = nn.Linear(size, size, bias=False)
        self.k_proj = nn.Linear(size, size, bias=False)
        self.v_proj = nn.Linear(size, size, bias=False)
        self.o_proj = nn.Linear(size, size, bias=False)
        self.post_attention_layernorm = RmsNorm(size, eps=config.layer_norm_eps)
        self.up_proj = nn.Linear(size, 4 * size, bias=False)
        self.down_proj = nn.Linear(4 * size, outputs, bias=False)
        self.weights = nn.Dropout(config.attention_probs_dropout_prob)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x_QW: Tensor, layout: Layout, *, causal: bool = False) -> Tensor:
        """(Q, W) → (Q, outputs)."""
        p = self.weights.p if self.training else 0.0
        q, k, v = projections(self.input_layernorm(x_QW), self.q_proj, self.k_proj, self.v_proj)
        x_QW = x_QW + self.dropout(self.o_proj(attention(q, k, v, layout, self.heads, p=p, causal=causal)))
        y: Tensor = self.dropout(self.down_proj(F.gelu(self.up_proj(self.post_attention_layernorm(x_QW)))))
        return x_QW + y if y.shape == x_QW.shape else y


class PatchEncoder(nn.Module):
    """Each id sees its whole patch, and the mean of them all is the patch's vector."""

    def __init__(self, config: TinyByteConfig, byte: ByteOptions) -> None:
        super().__init__()
        self.bytes = nn.Embedding(SIZE, byte.width)
        self.positions = nn.Embedding(byte.patch_bytes, byte.width)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        widths = [(size, outputs or config.hidden_size) for size, outputs in byte.encoder_widths]
        self.blocks = nn.ModuleList(ByteBlock(config, *each, byte.num_attention_heads) for each in widths)
        self.proj = nn.Identity() if byte.widens else nn.Linear(byte.width, config.hidden_size, bias=False)

    def forward(self, ids_R: Tensor, layout: PatchLayout) -> Tensor:
        """(S, D). ValueError if a patch is longer than those of the model."""
        each = layout.bytes
        if each.longest > self.positions.num_embeddings:
            raise ValueError(f"a patch of {each.longest} ids, but the model's have {self.positions.num_embeddings}")
        x = self.dropout(self.bytes(ids_R[layout.from_Q]) + self.positions(each.positions_R))
        for block in self.blocks:
            x = block(x, each)
        y: Tensor = self.proj(pooled(x, each))
        return y


def pooled(x_QW: Tensor, layout: Layout) -> Tensor:
    """The mean of each sequence's rows, padding left out: (S, W)."""
    means, start = [], 0
    for rectangle in layout.rectangles:
        rows = slice(start, start + rectangle.rows)
        x_SLW = x_QW[rows].view(rectangle.sequences, rectangle.length, -1)
        if rectangle.masked:
            real_SL1 = layout.real_R[rows].view(rectangle.sequences, -1, 1)
            means.append((x_SLW * real_SL1).sum(dim=1) / real_SL1.sum(dim=1))
        else:
            means.append(x_SLW.mean(dim=1))
        start = rows.stop
    return torch.cat(means)


class AutoregressiveHead(nn.Module):
    """A small decoder of each patch's bytes, given the core's state before the patch and the bytes before each: exact."""

    def __init__(self, config: TinyByteConfig, byte: ByteOptions) -> None:
        super().__init__()
        self.state = nn.Linear(config.hidden_size, byte.width, bias=False)
        self.bytes = nn.Embedding(SIZE, byte.width)
        """What is read, and what is predicted."""
        self.positions = nn.Embedding(byte.patch_bytes, byte.width)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        heads = byte.num_attention_heads
        self.blocks = nn.ModuleList(
            ByteBlock(config, byte.width, byte.width, heads) for _ in range(byte.decoder_layers)
        )
        self.norm = RmsNorm(byte.width, eps=config.layer_norm_eps)

    def forward(self, ids_R: Tensor, layout: PatchLayout, states_SD: Tensor, rows_N: Tensor) -> Tensor:
        """(N, W): what the ids in these rows of the texts are predicted from."""
        each = layout.bytes
        read_QW = self.bytes(ids_R[layout.from_Q])
        # Row j of a patch predicts its id j, and reads the one before it.
        before_QW = torch.cat([torch.zeros_like(read_QW[:1]), read_QW[:-1]]) * (each.positions_R > 0)[:, None]
        x = before_QW + self.positions(each.positions_R) + self.state(states_SD)[layout.patch_Q]
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, each, causal=True)
        y: Tensor = self.norm(x[layout.row_R[rows_N]])
        return y

    @property
    def projection(self) -> Tensor:
        """(V, W)."""
        return self.bytes.weight[:PREDICTED]


class ParallelHead(nn.Module):
    """The paper's: all ids of a patch at once from the core's state before it, none of them given another."""

    def __init__(self, config: TinyByteConfig, byte: ByteOptions) -> None:
        super().__init__()
        self.size = byte.patch_bytes
        self.state = nn.Linear(config.hidden_size, byte.patch_bytes * byte.width, bias=False)
        self.positions = nn.Embedding(byte.patch_bytes, byte.width)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        heads = byte.num_attention_heads
        self.blocks = nn.ModuleList(
            ByteBlock(config, byte.width, byte.width, heads) for _ in range(byte.decoder_layers)
        )
        self.bytes = nn.Linear(byte.width, SIZE, bias=False)

    def forward(self, ids_R: Tensor, layout: PatchLayout, states_SD: Tensor, rows_N: Tensor) -> Tensor:
        """(N, W), as `AutoregressiveHead`. Every patch has all P rows, however many ids it holds: that is not known yet."""
        all_of_them = slots(layout.patches, self.size, states_SD.device)
        x_SPW = self.state(states_SD).view(layout.patches, self.size, -1) + self.positions.weight
        x = self.dropout(x_SPW.flatten(0, 1))
        for block in self.blocks:
            x = block(x, all_of_them)
        rows_Q = layout.row_R[rows_N]
        y: Tensor = x[layout.patch_Q[rows_Q] * self.size + layout.bytes.positions_R[rows_Q]]
        return y

    @property
    def projection(self) -> Tensor:
        """(V, W)."""
        return self.bytes.weight[:PREDICTED]


def slots(patches: int, size: int, device: torch.device) -> Layout:
    """Patches that all have every one of their ids."""
    positions = torch.arange(size, device=device).repeat(patches)
    return Layout((Rectangle(patches, size, False),), positions, torch.ones_like(positions, dtype=torch.bool))


HEADS = {"autoregressive": AutoregressiveHead, "parallel": ParallelHead}
"""By `ByteOptions.head`."""
