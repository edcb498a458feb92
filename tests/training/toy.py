"""A vocabulary, models, a corpus and a task so small that a run of training takes a fraction of a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from helpers import numbered_vocabulary

from tlm.data.ragged import Ragged
from tlm.study.architecture import Architecture, variant
from tlm.study.config import FinetuneConfig, PretrainConfig
from tlm.training.finetune import Finetuned, finetune
from tlm.training.pretrain import Pretrained, pretrain

VOCABULARY = numbered_vocabulary(40)
ARCH = Architecture(
    name="toy",
    num_hidden_layers=1,
    hidden_size=16,
    num_attention_heads=2,
    intermediate_size=32,
    hidden_dropout_prob=0.1,
)
GPT = ARCH.model_copy(update={"name": "gpt", "kind": "decoder", "num_hidden_layers": 2})
LLAMA = variant(
    "micro",
    rename="llama",
    head_size=8,
    num_attention_heads=2,
    num_hidden_layers=3,
    options={"num_key_value_heads": 1, "sharing": {"what": "block", "lora_rank": 2}},
)
BYTES = variant(
    "byte-micro",
    rename="bytes",
    head_size=8,
    num_attention_heads=2,
    num_hidden_layers=1,
    options={"byte": {"width": 8, "num_attention_heads": 2}},
)
CONV = ARCH.model_copy(update={"name": "conv", "conv_kernel_sizes": ((3, 3), (4, 3)), "conv_channels": 2})


def corpus(size: int = 120, seed: int = 0) -> Ragged:
    """Each sequence counts up from one of six tokens: what stands where is easy to learn."""
    starts = np.random.default_rng(seed).integers(0, 6, size)
    return Ragged.from_lists([[5 + (start + i) % 35 for i in range(8)] for start in starts])


def pretrained(
    seed: int = 0,
    *,
    texts: Ragged | None = None,
    arch: Architecture = ARCH,
    run: dict[str, Any] | None = None,
    **f: Any,
) -> Pretrained:
    """`f`: fields of the configuration; `run`: what merely runs it (hooks, progress)."""
    config = PretrainConfig(**{"steps": 10, "batch_size": 16, "learning_rate": 5e-3, **f})
    texts = corpus() if texts is None else texts
    return pretrain(texts, corpus(40, seed=9), VOCABULARY, arch, config, max_length=12, seed=seed, **(run or {}))


def task_of(size: int = 60) -> tuple[Ragged, pd.DataFrame]:
    """Two labels that differ in their words; every sixth item is dev, and every sixth test."""
    generator = np.random.default_rng(4)
    labels = np.arange(size) % 2
    tokens = Ragged.from_lists([generator.integers(5, 15, 3 + i % 5) + 12 * label for i, label in enumerate(labels)])
    part = np.array(["train", "train", "train", "train", "dev", "test"])[np.arange(size) % 6]
    return tokens, pd.DataFrame({"row": np.arange(size), "label": labels, "part": part})


def finetuned(
    seed: int = 0,
    *,
    start: Path | None = None,
    arch: Architecture = ARCH,
    run: dict[str, Any] | None = None,
    **fields: Any,
) -> tuple[Finetuned, pd.DataFrame]:
    """The result, and the predictions in the order of the items."""
    tokens, items = task_of()
    config = FinetuneConfig(**{"epochs": 8, "batch_size": 8, "learning_rate": 5e-3, **fields})
    pieces: list[pd.DataFrame] = []
    done = finetune(
        tokens,
        items,
        VOCABULARY,
        arch,
        config,
        max_length=12,
        seed=seed,
        sink=pieces.append,
        pretrained=start,
        **(run or {}),
    )
    return done, pd.concat(pieces).sort_values("row")


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}
