"""Pre-training: masked language modelling on Ws paragraphs (paper: AdamW 5e-5, batch 32, 50 epochs)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from tlm.config import Architecture, PretrainConfig
from tlm.modeling import TinyBertForMaskedLM
from tlm.modeling.configuration import TinyBertConfig
from tlm.ragged import Ragged
from tlm.tokenizer import Vocabulary
from tlm.training.batching import evaluation_batches, pad_batch, training_batches
from tlm.training.masking import IGNORED, Masker
from tlm.training.optimisation import Batch, Curve, Progress, autocast, train

EVALUATIONS = 5
"""How often a run measures the held-out part, evenly spaced, the last time at its end."""
HELDOUT_SEED = 20_250_714
"""Every model sees the held-out part with the same positions masked."""


@dataclass(frozen=True)
class Pretrained:
    model: TinyBertForMaskedLM
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
    progress: Progress | None = None,
) -> Pretrained:
    """Train a masked language model from a seeded initialisation; the last step is the result.

    Raises:
        NonFiniteLoss: if training diverges.
    """
    torch.manual_seed(seed)
    model = TinyBertForMaskedLM(
        TinyBertConfig.from_architecture(
            architecture,
            vocab_size=len(vocabulary),
            max_position_embeddings=max_length,
            pad_token_id=vocabulary.pad,
            cls_token_id=vocabulary.cls,
        )
    ).to(device)
    steps_per_epoch = math.ceil(len(corpus) / config.batch_size)
    steps = config.steps if config.steps is not None else (config.epochs or 0) * steps_per_epoch
    masker = Masker(vocabulary, config.mlm_probability, seed)
    tokens = 0

    def batches() -> Iterator[Batch]:
        nonlocal tokens
        for epoch, rows in training_batches(len(corpus), config.batch_size, steps, seed):
            ids_BT, mask_BT = pad_batch(corpus, rows, vocabulary, max_length)
            tokens += int(mask_BT.sum())
            corrupted_BT, labels_BT = masker(ids_BT)
            yield Batch(
                epoch, rows.tolist(), {"input_ids": corrupted_BT, "attention_mask": mask_BT, "labels": labels_BT}
            )

    curve = Curve()
    moments = {round(steps * (i + 1) / EVALUATIONS) for i in range(EVALUATIONS)}

    def evaluate(step: int, epoch: int) -> None:
        if step in moments:
            curve.add(step, epoch, **evaluate_mlm(model, heldout, vocabulary, config, max_length, device))
            model.train()

    train(
        model,
        batches(),
        config,
        steps=steps,
        steps_per_epoch=steps_per_epoch,
        device=device,
        curve=curve,
        after_step=evaluate,
        progress=progress,
    )
    facts: dict[str, float | int] = {
        "heldout_loss": curve.last("heldout_loss"),
        "heldout_accuracy": curve.last("heldout_accuracy"),
        "steps": steps,
        "tokens": tokens,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    return Pretrained(model, curve, facts)


@torch.inference_mode()
def evaluate_mlm(
    model: TinyBertForMaskedLM,
    heldout: Ragged,
    vocabulary: Vocabulary,
    config: PretrainConfig,
    max_length: int,
    device: str,
) -> dict[str, float]:
    """Mean cross-entropy (nats) and accuracy over the held-out part's masked positions, the same for every model.

    NaN if the part is so small that no position is masked.
    """
    model.eval()
    masker = Masker(vocabulary, config.mlm_probability, HELDOUT_SEED)
    total = correct = positions = 0.0
    for rows in evaluation_batches(heldout.lengths, 128):
        ids_BT, mask_BT = pad_batch(heldout, rows, vocabulary, max_length)
        corrupted_BT, labels_BT = masker(ids_BT)
        if not (labels_BT != IGNORED).any():
            continue
        with autocast(config.precision, device):
            logits_NV = model(
                input_ids=corrupted_BT.to(device), attention_mask=mask_BT.to(device), labels=labels_BT.to(device)
            ).logits
        wanted_N = labels_BT[labels_BT != IGNORED].to(device)
        total += float(cross_entropy(logits_NV.float(), wanted_N, reduction="sum"))
        correct += float((logits_NV.argmax(dim=1) == wanted_N).sum())
        positions += len(wanted_N)
    if not positions:
        return {"heldout_loss": math.nan, "heldout_accuracy": math.nan}
    return {"heldout_loss": total / positions, "heldout_accuracy": correct / positions}
