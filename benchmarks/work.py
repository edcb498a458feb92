"""How much computing a batch needs at least, and how much the processor can do: the scale that speeds are put on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

from benchmarks.cases import MLM_PROBABILITY, Case
from benchmarks.workload import Workload
from tlm.data.ragged import Rows
from tlm.modeling.cost import classifier_flops, language_model_flops

TRAINING = 3
"""A training step in forward passes: the backward pass multiplies twice for each product of the forward pass."""
BLOCKS = 3
BLOCK_SECONDS = 0.1


def useful_flops(case: Case, workload: Workload, batches: Sequence[Rows]) -> float:
    """Floating point operations (a multiply-add is two) that the real tokens of `batches` need.

    For an item of t real tokens, [CLS] and [SEP] counted, `tlm.modeling.cost`: matrix
    products and convolutions of the front, the layers (attention over t, not over padding) and the head, where the last
    layer and the head compute only what the loss reads: m = 0.15·(t - 2) predicted positions, or position 0 for the
    classifier. Pre-training: embeddings' look-ups, normalisations and the optimizer count nothing.

        pre-training   3·Σ F(t, m)        F is linear in m, so the expected m need not be whole
        fine-tuning    3·Σ F(t)
        evaluation       Σ F(t)
    """
    lengths, counts = np.unique(workload.real_lengths(np.concatenate(batches), case.max_length), return_counts=True)
    labels = 0 if case.objective == "pretrain" else workload.num_labels
    each = [_forward(case, int(length), len(workload.vocabulary), labels) for length in lengths]
    return float(np.dot(each, counts)) * (TRAINING if case.trains else 1)


@lru_cache(maxsize=4096)
def _forward(case: Case, length: int, vocab_size: int, num_labels: int) -> float:
    if num_labels:
        return float(classifier_flops(case.shape, length, num_labels))
    without, one = (language_model_flops(case.shape, length, masked, vocab_size) for masked in (0, 1))
    return without + MLM_PROBABILITY * (length - 2) * (one - without)


def matmul_ceiling(tokens: int, hidden: int, precision: str, device: str) -> float:
    """Gigaflops per second of (tokens × hidden)·(hidden × 4 hidden), the feed-forward product: the best of a few blocks.

    The best, not the median: it is meant as what the processor can do when nothing else has it. Measured in every round,
    because one moment in which others keep the cores busy would make it several times too low.
    """
    dtype = getattr(torch, precision)
    left = torch.randn(tokens, hidden, device=device).to(dtype)
    right = torch.randn(hidden, 4 * hidden, device=device).to(dtype)
    out = left @ right

    def block(count: int) -> float:
        synchronize(device)
        start = time.perf_counter()
        for _ in range(count):
            torch.mm(left, right, out=out)
        synchronize(device)
        return time.perf_counter() - start

    count = 1
    while block(count) < BLOCK_SECONDS:
        count *= 2
    seconds = min(block(count) for _ in range(BLOCKS))
    return 2 * tokens * hidden * 4 * hidden * count / seconds / 1e9


def synchronize(device: str) -> None:
    """Wait until a GPU has done all it was given; a CPU has."""
    if device == "cuda":
        torch.cuda.synchronize()
