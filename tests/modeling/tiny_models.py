"""Small models and batches for the model tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tlm.modeling import TinyBertConfig, TinyGptConfig, TinyLlamaConfig
from tlm.study.architecture import VARIANTS, Architecture, variant

VOCAB, POSITIONS, PAD, CLS, LABELS = 53, 24, 0, 2, 5
CONV_NAMES = tuple(name for name, variant in VARIANTS.items() if variant.conv_kernel_sizes)
CONFIGS = {"encoder": TinyBertConfig, "decoder": TinyGptConfig, "llama": TinyLlamaConfig}


def small(name: str, **overrides: Any) -> Architecture:
    """A variant of the paper at heads of 4 and 3 conv channels, without dropout unless given."""
    fields = {
        "head_size": 4,
        "conv_channels": 3 if name in CONV_NAMES else None,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    return variant(name, **{**fields, **overrides})


def config_of(arch: Architecture) -> Any:
    return CONFIGS[arch.kind].from_architecture(
        arch,
        vocab_size=VOCAB,
        max_position_embeddings=POSITIONS,
        pad_token_id=PAD,
        cls_token_id=CLS,
        num_labels=LABELS,
    )


def batch(lengths: tuple[int, ...] = (12, 5, 9), width: int = 12) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask (B, width); the same real tokens whatever the width."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.full((len(lengths), width), PAD)
    mask = torch.zeros((len(lengths), width), dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(3, VOCAB, (length,), generator=generator)
        ids[row, 0], mask[row, :length] = CLS, 1
    return ids, mask


def mlm_labels(ids: Tensor, mask: Tensor) -> Tensor:
    """Every third real position is to be predicted."""
    labels = torch.where(mask.bool(), ids, -100)
    labels[:, torch.arange(ids.shape[1]) % 3 != 1] = -100
    return labels


def build(model_class: Callable[..., Any], arch: Architecture, seed: int = 0) -> Any:
    """A model in train mode, its every parameter and running statistic moved away from its initial value."""
    torch.manual_seed(seed)
    model = model_class(config_of(arch))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.add_(torch.rand_like(buffer))
    return model.train()
