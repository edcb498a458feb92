"""Pre-training: masked language modelling on Ws paragraphs (paper: AdamW 5e-5, batch 32, 50 epochs)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from tlm.config import Architecture, PretrainConfig
from tlm.modeling import TinyBertForMaskedLM
from tlm.modeling.configuration import TinyBertConfig
from tlm.ragged import Ragged, Rows
from tlm.tokenizer import Vocabulary
from tlm.training.batching import Order, evaluation_batches, packer, with_specials
from tlm.training.checkpoint import Checkpoints
from tlm.training.loop import BatchOrder, Data, Inputs, train
from tlm.training.masking import Masker, masked_inputs
from tlm.training.optimisation import Curve, Progress, autocast

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
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
) -> Pretrained:
    """Train a masked language model from a seeded initialisation; the last step is the result.

    With `checkpoints` an interrupted run goes on where it was, to the same result.

    Raises:
        NonFiniteLoss: if training diverges.
        BatchTooLarge: if the memory does not hold a batch.
        UserError: if it does not hold the evaluation.
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
    data = mlm_data(model, corpus, vocabulary, config, max_length=max_length, seed=seed, device=device)
    steps = config.steps if config.steps is not None else (config.epochs or 0) * data.order.steps_per_epoch
    curve = Curve()
    moments = {round(steps * (i + 1) / EVALUATIONS) for i in range(EVALUATIONS)}

    def evaluate(step: int, epoch: int) -> None:
        if step in moments:
            curve.add(step, epoch, **evaluate_mlm(model, heldout, vocabulary, config, max_length, device))
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


def mlm_data(
    model: TinyBertForMaskedLM,
    corpus: Ragged,
    vocabulary: Vocabulary,
    config: PretrainConfig,
    *,
    max_length: int,
    seed: int,
    device: str = "cpu",
) -> Data:
    """The batches of masked language modelling: order and masks are functions of seed and step alone."""
    masker = Masker(vocabulary, config.mlm_probability, seed)
    pack = packer(model.config, device)

    def inputs(step: int, rows: Rows) -> Inputs:
        return masked_inputs(pack(corpus, rows, vocabulary, max_length), masker, step)

    return Data(Order(len(corpus), config.batch_size, seed), inputs)


def tokens_seen(lengths: Rows, order: BatchOrder, steps: int, max_length: int) -> int:
    """Tokens of the batches up to `steps`, [CLS] and [SEP] counted, padding not."""
    seen = with_specials(lengths, max_length)
    epochs, rest = divmod(steps, order.steps_per_epoch)
    return int(epochs * seen.sum() + sum(seen[order.batch(step)[1]].sum() for step in range(steps - rest, steps)))


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
    pack = packer(model.config, device)
    masker = Masker(vocabulary, config.mlm_probability, HELDOUT_SEED)
    total = correct = positions = 0.0
    for step, rows in enumerate(evaluation_batches(heldout.lengths, 128)):
        inputs = masked_inputs(pack(heldout, rows, vocabulary, max_length), masker, step)
        wanted_N = inputs.pop("labels_N")
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
