"""Contender "stock": transformers' BERT in a plain loop. Padded to the full length, logits at every position, float32.

Shapes: B sequences, T positions, D hidden size, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

from benchmarks.cases import LEARNING_RATE, MLM_PROBABILITY, WEIGHT_DECAY, Shape
from benchmarks.setting import Setting
from benchmarks.workload import Workload
from tlm.data.ragged import Rows

IGNORED = -100


class ConvEmbeddings(nn.Module):
    """BERT's embeddings, then convolutions over (positions, hidden), [PAD] included: the reference code's front."""

    def __init__(self, embeddings: nn.Module, shape: Shape) -> None:
        super().__init__()
        self.embeddings = embeddings
        channels = [1] + [shape.conv_channels] * len(shape.conv_kernel_sizes) + [1]
        layers: list[nn.Module] = []
        for (c_in, c_out), kernel in zip(pairwise(channels), (*shape.conv_kernel_sizes, (1, 1)), strict=True):
            layers += [nn.Conv2d(c_in, c_out, kernel, padding="same"), nn.BatchNorm2d(c_out), nn.GELU()]
        self.front = nn.Sequential(*layers)

    def forward(self, **inputs: Any) -> Tensor:
        """What BERT's embeddings take → (B, T, D)."""
        x_B1TD: Tensor = self.embeddings(**inputs).unsqueeze(1)
        return torch.squeeze(self.front(x_B1TD), 1)


def build_model(setting: Setting) -> nn.Module:
    """transformers' model of the case, with BertConfig's defaults (dropout 0.1) where the case says nothing."""
    case, shape = setting.case, setting.case.shape
    config = BertConfig(
        vocab_size=len(setting.workload.vocabulary),
        num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=shape.num_attention_heads,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=case.max_length,
        pad_token_id=setting.workload.id_of("[PAD]"),
        num_labels=max(setting.workload.num_labels, 1),
    )
    torch.manual_seed(0)
    model: Any = (BertForMaskedLM if case.objective == "pretrain" else BertForSequenceClassification)(config)
    if shape.conv_kernel_sizes:
        model.bert.embeddings = ConvEmbeddings(model.bert.embeddings, shape)
    placed: nn.Module = model.to(setting.device)
    return placed


def encode_padded(workload: Workload, max_length: int) -> tuple[Tensor, Tensor]:
    """Every item as input_ids_NT and attention_mask_NT (int64), T = `max_length`: what a tokenizer's padding returns."""
    count = len(workload.tokens)
    ids = np.full((count, max_length), workload.id_of("[PAD]"), dtype=np.int64)
    mask = np.zeros((count, max_length), dtype=np.int64)
    cls, sep = workload.id_of("[CLS]"), workload.id_of("[SEP]")
    for row in range(count):
        item = [cls, *workload.tokens[row][: max_length - 2].tolist(), sep]
        ids[row, : len(item)], mask[row, : len(item)] = item, 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


class Stock:
    """See the module's docstring. On CUDA under bfloat16 autocast, as anyone would run it there."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.precision = "bfloat16" if setting.device == "cuda" else "float32"
        self.model = build_model(setting)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        self.ids, self.mask = encode_padded(setting.workload, setting.case.max_length)
        self.labels = torch.from_numpy(setting.workload.labels)
        self.special = torch.tensor([setting.workload.id_of(token) for token in ("[PAD]", "[CLS]", "[SEP]")])
        self.mask_id = setting.workload.id_of("[MASK]")

    def prepare(self, batches: Sequence[Rows], repeats: int) -> Callable[[], None]:
        """Nothing is left to prepare."""
        work = self.train if self.setting.case.trains else self.evaluate
        return lambda: work([*batches] * repeats)

    def train(self, batches: Sequence[Rows]) -> None:
        """The plain loop."""
        self.model.train()
        for inputs in self._inputs(batches):
            with self._autocast():
                loss = self.model(**inputs).loss
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    @torch.no_grad()
    def evaluate(self, batches: Sequence[Rows]) -> None:
        """Logits of each item, as float32 in memory."""
        self.model.eval()
        logits = []
        for inputs in self._inputs(batches):
            inputs.pop("labels")
            with self._autocast():
                logits.append(self.model(**inputs).logits.float().cpu())
        torch.cat(logits).numpy()

    def _inputs(self, batches: Sequence[Rows]) -> Iterator[dict[str, Tensor]]:
        for rows in batches:
            ids_BT, labels = self.ids[rows], self.labels[rows]
            if self.setting.case.objective == "pretrain":
                ids_BT, labels = self._corrupt(ids_BT)
            inputs = {"input_ids": ids_BT, "attention_mask": self.mask[rows], "labels": labels}
            yield {name: tensor.to(self.setting.device) for name, tensor in inputs.items()}

    def _corrupt(self, ids_BT: Tensor) -> tuple[Tensor, Tensor]:
        """BERT's masking: 15 % of positions, of them 80 % [MASK], 10 % random, 10 % unchanged."""
        predicted_BT = (torch.rand(ids_BT.shape) < MLM_PROBABILITY) & ~torch.isin(ids_BT, self.special)
        labels_BT = ids_BT.masked_fill(~predicted_BT, IGNORED)
        fate_BT = torch.rand(ids_BT.shape)
        random_BT = torch.randint(len(self.setting.workload.vocabulary), ids_BT.shape)
        ids_BT = ids_BT.masked_fill(predicted_BT & (fate_BT < 0.8), self.mask_id)
        return torch.where(predicted_BT & (fate_BT >= 0.9), random_BT, ids_BT), labels_BT

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast("cuda", dtype=torch.bfloat16) if self.precision == "bfloat16" else nullcontext()
