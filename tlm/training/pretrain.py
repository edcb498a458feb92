"""Pre-training on Ws paragraphs (paper: masked language modelling, AdamW 5e-5, batch 32, 50 epochs)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tlm.data.ragged import Ragged, Rows
from tlm.data.tokenizer import Vocabulary
from tlm.modeling.cost import pretraining_run_flops
from tlm.modeling.families.base import family_of
from tlm.modeling.initialization import AS_ITS_CLASS, initialize, set_output_bias, set_word_vectors
from tlm.modeling.packing import with_specials
from tlm.study.architecture import Architecture
from tlm.study.config import PretrainConfig
from tlm.study.initialization import Initialization
from tlm.training.batching import EpochOrder, evaluation_batches, shortened
from tlm.training.dropout import ScheduledDropout
from tlm.training.hooks import Evaluate, Hook, LogLoss, ReportProgress
from tlm.training.layer_drop import LayerDrop
from tlm.training.loop import Batches, BatchOrder, Inputs, train
from tlm.training.objectives.base import LanguageObjective
from tlm.training.optimisation import Curve, Progress, autocast

EVALUATIONS = 5
"""How often a run measures the held-out part, evenly spaced, the last time at its end."""
HELDOUT_SEED = 20_250_714
"""Every masked language model sees the held-out part with the same positions masked."""


@dataclass(frozen=True)
class Pretrained:
    model: Any
    """The language model of the architecture's family."""
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
    initialization: Initialization = AS_ITS_CLASS,
    embeddings: NDArray[np.float32] | None = None,
    heldout_bytes: int | None = None,
    device: str = "cpu",
    hooks: Sequence[Hook] = (),
    progress: Progress | None = None,
) -> Pretrained:
    """Train a language model from a seeded initialisation; the last step is the result.

    Args:
        corpus: token ids of the Ws paragraphs to train on, without special tokens.
        heldout: token ids of paragraphs that are only measured, packed if those are.
        vocabulary: of both; its size is that of the model's word embeddings.
        architecture: the model's shape and family.
        config: its objective is by default the family's own. The items of each step are the same for all objectives.
        max_length: tokens of a sequence at most, [CLS] and [SEP] counted; also the model's positions.
        seed: of initialisation, order of the items, dropout, and what the objective draws.
        initialization: what its other weights begin as; by default as the class of the model draws them.
        embeddings: word vectors that tokens begin as, (vocabulary, hidden size); zeros for those to be drawn.
        heldout_bytes: of UTF-8 in the text that `heldout` stands for; with it, and an objective that predicts everything,
            the loss is a fact in bits a byte too.
        device: "cpu" or "cuda".
        hooks: what else happens before the first step and after each, as `tlm.training.checkpoint.Checkpoints`, with
            which an interrupted run goes on where it was, to the same result.
        progress: called as (steps done, steps in all).

    Raises:
        NonFiniteLoss: if training diverges.
        BatchTooLarge: if the memory does not hold a batch.
        UserError: if the objective does not work with the family, or the memory does not hold the evaluation.
    """
    architecture = architecture.with_dropout(config.dropout)
    objective = objective_of(architecture, config)
    if config.embedding_init == "ppmi_svd" and embeddings is None:
        raise ValueError("embedding_init: ppmi_svd needs embeddings, as tlm.data.ppmi makes them")
    model = untrained(
        architecture,
        vocabulary,
        max_length=max_length,
        seed=seed,
        initialization=initialization,
        embeddings=embeddings,
        counts_V=np.bincount(corpus.ids, minlength=len(vocabulary)) if config.output_bias == "log_unigram" else None,
    )
    module = objective.trained_module(model).to(device)
    if config.packing:
        after = vocabulary.sep if family_of(architecture).units == "byte" else None  # a row has whole patches
        corpus, heldout = (text.joined(vocabulary.sep, max_length - 2, after=after) for text in (corpus, heldout))
    batches = pretraining_batches(
        objective, model, corpus, vocabulary, config, max_length=max_length, seed=seed, device=device
    )
    planned = config.steps if config.steps is not None else (config.epochs or 0) * batches.order.steps_per_epoch
    steps = shortened(planned, config)
    moments = {round(steps * (i + 1) / EVALUATIONS) for i in range(EVALUATIONS)}
    curve = Curve()

    def measure() -> dict[str, float]:
        return heldout_metrics(
            objective, module, model, heldout, vocabulary, config, max_length=max_length, device=device
        )

    own = [LogLoss(), Evaluate(moments.__contains__, measure)]
    last: list[Hook] = [ReportProgress(progress)] if progress else []
    if config.dropout_schedule != "constant":
        last.append(ScheduledDropout(config))
    if config.layer_drop:
        last.append(LayerDrop(config, layers_of(model), seed))
    train(module, batches, config, steps=steps, device=device, curve=curve, hooks=[*own, *hooks, *last])
    tokens = tokens_seen(corpus.lengths, batches.order, steps, max_length)
    facts: dict[str, float | int] = {
        "heldout_loss": curve.last("heldout_loss"),
        "heldout_accuracy": curve.last("heldout_accuracy"),
        "steps": steps,
        "tokens": tokens,
        "flops": pretraining_run_flops(
            architecture, config, len(vocabulary), steps=steps, texts=len(corpus), tokens=tokens
        ),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    if objective.exact and heldout_bytes:
        facts["heldout_bits_per_byte"] = bits_per_byte(
            facts["heldout_loss"], with_specials(heldout.lengths, max_length), heldout_bytes
        )
    return Pretrained(model, curve, facts)


def bits_per_byte(loss: float, lengths: Rows, text_bytes: int) -> float:
    """The mean loss of texts (nats, for each token but the first; `lengths` with [CLS] and [SEP]) for each of their bytes.

    It compares what cuts text in different ways. The ends of texts are predicted too, and cost what they cost.
    """
    return loss * float((lengths - 1).sum()) / (text_bytes * math.log(2))


def untrained(
    architecture: Architecture,
    vocabulary: Vocabulary,
    *,
    max_length: int,
    seed: int,
    initialization: Initialization = AS_ITS_CLASS,
    embeddings: NDArray[np.float32] | None = None,
    counts_V: NDArray[np.int64] | None = None,
) -> Any:
    """The language model that `pretrain` begins with; torch's generators are then where that seed led them.

    Args:
        counts_V: how often each token occurs, for a model whose output bias begins as their logarithm.
    """
    torch.manual_seed(seed)
    family = family_of(architecture)
    model = family.language_model(family.configure(architecture, vocabulary, max_length))
    initialize(model, initialization)
    if embeddings is not None:
        set_word_vectors(model, embeddings)
    if counts_V is not None:
        set_output_bias(model, counts_V)
    return model


def layers_of(model: Any) -> list[nn.Module]:
    """A model's layers, the lowest first."""
    return [*model.get_submodule(family_of(model.config).layer_names.removesuffix(".")).children()]


def objective_of(architecture: Architecture, config: PretrainConfig) -> LanguageObjective:
    """What a model of that architecture is pre-trained with. Raises UserError if the objective does not work with it."""
    objective = config.objective_for(family_of(architecture))
    assert isinstance(objective, LanguageObjective)
    return objective


def pretraining_batches(
    objective: LanguageObjective,
    model: Any,
    corpus: Ragged,
    vocabulary: Vocabulary,
    config: PretrainConfig,
    *,
    max_length: int,
    seed: int,
    device: str = "cpu",
) -> Batches:
    """The batches of pre-training `model`: what is in them is a function of seed and step alone."""
    pack = family_of(model.config).packer(model.config, device)

    def inputs(step: int, rows: Rows) -> Inputs:
        batch = pack(corpus, rows, vocabulary, max_length)
        return objective.inputs(batch, vocabulary, config, seed=seed, step=step)

    return Batches(EpochOrder(len(corpus), config.batch_size, seed), inputs)


def tokens_seen(lengths: Rows, order: BatchOrder, steps: int, max_length: int) -> int:
    """Tokens of the batches up to `steps`, [CLS] and [SEP] counted, padding not."""
    seen = with_specials(lengths, max_length)
    epochs, rest = divmod(steps, order.steps_per_epoch)
    return int(epochs * seen.sum() + sum(seen[order.batch(step)[1]].sum() for step in range(steps - rest, steps)))


@torch.inference_mode()
def heldout_metrics(
    objective: LanguageObjective,
    module: Any,
    model: Any,
    heldout: Ragged,
    vocabulary: Vocabulary,
    config: PretrainConfig,
    *,
    max_length: int,
    device: str = "cpu",
) -> dict[str, float]:
    """Each metric of the objective, `heldout_loss` and so on: the mean over the held-out part's positions that it is about,
    which are the same for every model.

    NaN if the part is so small that no position is predicted.
    """
    module.eval()
    pack = family_of(model.config).packer(model.config, device)
    sums, counts = {"loss": 0.0, "accuracy": 0.0}, {"loss": 0, "accuracy": 0}
    items = evaluation_batches(heldout.lengths, family_of(model.config).heldout_batch_size)
    for left, rows in enumerate(items, start=1):  # the longest first; masks are drawn by rank from the shortest
        batch = pack(heldout, rows, vocabulary, max_length)
        inputs = objective.heldout_inputs(batch, vocabulary, config, seed=HELDOUT_SEED, step=len(items) - left)
        with autocast(config.precision, device):
            moved = {name: value.to(device) for name, value in inputs.items()}
            of_batch = objective.heldout_sums(module, moved)
        for name, (total, count) in of_batch.items():
            sums[name] = sums.get(name, 0.0) + float(total)
            counts[name] = counts.get(name, 0) + count
    return {f"heldout_{name}": total / counts[name] if counts[name] else math.nan for name, total in sums.items()}
