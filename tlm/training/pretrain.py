"""Pre-training on Ws paragraphs: masked language modelling (paper: AdamW 5e-5, batch 32, 50 epochs), or causal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tlm.data.ragged import Ragged, Rows
from tlm.data.tokenizer import Vocabulary
from tlm.study.architecture import Architecture
from tlm.study.config import PretrainConfig
from tlm.training.batching import evaluation_batches, shortened, with_specials
from tlm.training.checkpoint import Checkpoints
from tlm.training.loop import BatchOrder, train
from tlm.training.objectives import KINDS, Kind, LanguageModel, mlm_data
from tlm.training.optimisation import Curve, Progress, autocast

__all__ = ["Pretrained", "heldout_metrics", "mlm_data", "pretrain", "tokens_seen"]

EVALUATIONS = 5
"""How often a run measures the held-out part, evenly spaced, the last time at its end."""
HELDOUT_SEED = 20_250_714
"""Every masked language model sees the held-out part with the same positions masked."""


@dataclass(frozen=True)
class Pretrained:
    model: LanguageModel
    curve: Curve
    facts: dict[str, float | int]


def pretrain(
    corpus: Ragged,
    heldout: Ragged,
    vocabulary: Vocabulary,
    architecture: Architecture,
    config: PretrainConfig,
    *,
    max_length: int,
    seed: int,
    device: str = "cpu",
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
) -> Pretrained:
    """Train a language model from a seeded initialisation; the last step is the result.

    Its objective is that of `architecture.kind` (`tlm.training.objectives`); the items of each step are the same for both.
    With `checkpoints` an interrupted run goes on where it was, to the same result.

    Raises:
        NonFiniteLoss: if training diverges.
        BatchTooLarge: if the memory does not hold a batch.
        UserError: if it does not hold the evaluation.
    """
    torch.manual_seed(seed)
    kind = KINDS[architecture.kind]
    model = kind.language_model(
        kind.config.from_architecture(
            architecture,
            vocab_size=len(vocabulary),
            max_position_embeddings=max_length,
            pad_token_id=vocabulary.pad,
            cls_token_id=vocabulary.cls,
        )
    ).to(device)
    data = kind.data(model, corpus, vocabulary, config, max_length=max_length, seed=seed, device=device)
    planned = config.steps if config.steps is not None else (config.epochs or 0) * data.order.steps_per_epoch
    steps = shortened(planned, config)
    curve = Curve()
    moments = {round(steps * (i + 1) / EVALUATIONS) for i in range(EVALUATIONS)}

    def evaluate(step: int, epoch: int) -> None:
        if step in moments:
            curve.add(step, epoch, **heldout_metrics(kind, model, heldout, vocabulary, config, max_length, device))
            model.train()

    train(
        model,
        data,
        config,
        steps=steps,
        device=device,
        curve=curve,
        after_step=evaluate,
        checkpoints=checkpoints,
        progress=progress,
    )
    facts: dict[str, float | int] = {
        "heldout_loss": curve.last("heldout_loss"),
        "heldout_accuracy": curve.last("heldout_accuracy"),
        "steps": steps,
        "tokens": tokens_seen(corpus.lengths, data.order, steps, max_length),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    return Pretrained(model, curve, facts)


def tokens_seen(lengths: Rows, order: BatchOrder, steps: int, max_length: int) -> int:
    """Tokens of the batches up to `steps`, [CLS] and [SEP] counted, padding not."""
    seen = with_specials(lengths, max_length)
    epochs, rest = divmod(steps, order.steps_per_epoch)
    return int(epochs * seen.sum() + sum(seen[order.batch(step)[1]].sum() for step in range(steps - rest, steps)))


@torch.inference_mode()
def heldout_metrics(
    kind: Kind,
    model: LanguageModel,
    heldout: Ragged,
    vocabulary: Vocabulary,
    config: PretrainConfig,
    max_length: int,
    device: str,
) -> dict[str, float]:
    """Mean cross-entropy (nats) and accuracy over the held-out part's predicted positions, the same for every model.

    NaN if the part is so small that no position is predicted.
    """
    model.eval()
    data = kind.data(model, heldout, vocabulary, config, max_length=max_length, seed=HELDOUT_SEED, device=device)
    total = correct = positions = 0.0
    batches = evaluation_batches(heldout.lengths, kind.evaluated_at_once)
    for left, rows in enumerate(batches, start=1):  # the longest first; masks are drawn by rank from the shortest
        inputs: dict[str, Any] = dict(data.inputs(len(batches) - left, rows))
        wanted_N: Tensor = inputs.pop("labels_N")
        if not len(wanted_N):
            continue
        with autocast(config.precision, device):
            logits_NV = model.logits(**{name: value.to(device) for name, value in inputs.items()}).float()
        wanted_N = wanted_N.to(device)
        total += float(cross_entropy(logits_NV, wanted_N, reduction="sum"))
        correct += float((logits_NV.argmax(dim=1) == wanted_N).sum())
        positions += len(wanted_N)
    if not positions:
        return {"heldout_loss": math.nan, "heldout_accuracy": math.nan}
    return {"heldout_loss": total / positions, "heldout_accuracy": correct / positions}
