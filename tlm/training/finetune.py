"""Fine-tuning (paper: AdamW 5e-5, batch 32) of a classifier that reads [CLS], or in a decoder [SEP], and evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from tlm.data.ragged import Ragged, Rows
from tlm.data.tokenizer import Vocabulary
from tlm.modeling.cost import finetuning_run_flops
from tlm.modeling.families.base import family_of
from tlm.modeling.initialization import AS_ITS_CLASS, initialize, set_word_vectors
from tlm.modeling.interchange import load_encoder_into_classifier
from tlm.modeling.packing import with_specials
from tlm.study.architecture import Architecture
from tlm.study.base import Precision
from tlm.study.config import FinetuneConfig
from tlm.study.initialization import Initialization
from tlm.training.batching import EpochOrder, evaluation_batches, shortened
from tlm.training.distillation import Teaching
from tlm.training.hooks import Evaluate, Hook, LogLoss, ReportProgress
from tlm.training.loop import Batches, Inputs, own_loss, train
from tlm.training.memory import out_of_memory_is
from tlm.training.optimisation import Curve, Progress, autocast

PREDICTED_AT_ONCE = 64
"""Texts in a batch of evaluation."""


@dataclass(frozen=True)
class Finetuned:
    model: Any
    """The classifier of the architecture's family."""
    curve: Curve
    facts: dict[str, float | int]


def finetune(
    tokens: Ragged,
    items: pd.DataFrame,
    vocabulary: Vocabulary,
    architecture: Architecture,
    config: FinetuneConfig,
    *,
    max_length: int,
    seed: int,
    sink: Callable[[pd.DataFrame], None],
    pretrained: Path | None = None,
    initialization: Initialization = AS_ITS_CLASS,
    embeddings: NDArray[np.float32] | None = None,
    teaching: Teaching | None = None,
    device: str = "cpu",
    hooks: Sequence[Hook] = (),
    progress: Progress | None = None,
) -> Finetuned:
    """Train a classifier on the items whose part is "train" and predict the dev and test items.

    Args:
        tokens: token ids of every text of the task's source, without special tokens; `items.row` points into it.
        items: columns row, label (0 … C - 1), part ("train", "dev" or "test": the split), and any others.
        vocabulary: of the tokens; its size is that of the model's word embeddings.
        architecture: the model's shape and family.
        config: number of epochs, and how each step is taken.
        max_length: tokens of a sequence at most, [CLS] and [SEP] counted; also the model's positions.
        seed: of initialisation, order of the items, and dropout.
        sink: is given the predictions batch by batch: the dev and test items with a column logits (list of float32,
            one for each label), every item once, short texts first. There need be no test items.
        pretrained: folder of a pre-trained model whose layers to start from; None trains from scratch.
        initialization: what its other weights begin as; by default as the class of the model draws them.
        embeddings: word vectors that tokens of a model from scratch begin as, (vocabulary, hidden size); zeros for those
            to be drawn.
        teaching: what a teacher says of the training items, in their order in `items`; None: labels alone.
        device: "cpu" or "cuda".
        hooks: what else happens before the first step and after each, as `tlm.training.checkpoint.Checkpoints`, with
            which an interrupted run goes on where it was, to the same result.
        progress: called as (steps done, steps in all).

    The last epoch is the result: test items are predicted once, after it.

    Raises:
        NonFiniteLoss: if training diverges.
        BatchTooLarge: if the memory does not hold a batch.
        UserError: if the pre-trained weights do not fit the architecture, or a batch to predict the memory.
    """
    torch.manual_seed(seed)
    architecture = architecture.with_dropout(config.dropout)
    family, num_labels = family_of(architecture), int(items["label"].max()) + 1
    model = family.classifier(family.configure(architecture, vocabulary, max_length, num_labels))
    initialize(model, initialization)
    if embeddings is not None:
        set_word_vectors(model, embeddings)
    if pretrained is not None:
        load_encoder_into_classifier(model, pretrained)
    model.to(device)
    batches = classification_batches(
        model,
        tokens,
        items[items["part"] == "train"],
        vocabulary,
        config,
        max_length=max_length,
        seed=seed,
        teaching=teaching,
        device=device,
    )
    steps = shortened(config.epochs * batches.order.steps_per_epoch, config)
    held = items[items["part"] != "train"]
    dev = held[held["part"] == "dev"]
    curve = Curve()

    def ends_epoch(step: int) -> bool:
        return step % batches.order.steps_per_epoch == 0 or step == steps

    def measure() -> dict[str, float]:
        logits_NC = predict(model, tokens, dev["row"].to_numpy(), vocabulary, max_length, config.precision, device)
        return {"dev_accuracy": accuracy(logits_NC, dev["label"].to_numpy())}

    own = [LogLoss(), Evaluate(ends_epoch, measure)]
    last = [ReportProgress(progress)] if progress else []
    train(model, batches, config, steps=steps, device=device, curve=curve, hooks=[*own, *hooks, *last])
    hits: dict[str, list[bool]] = {"dev": [], "test": []}
    rows = held["row"].to_numpy()
    for batch, logits_NC in predictions(model, tokens, rows, vocabulary, max_length, config.precision, device):
        frame = held.iloc[batch].assign(logits=list(logits_NC))
        for part, right in zip(frame["part"], logits_NC.argmax(axis=1) == frame["label"], strict=True):
            hits[part].append(bool(right))
        sink(frame)
    tokens_N = with_specials(tokens.lengths[items["row"][items["part"] == "train"].to_numpy()], max_length)
    facts: dict[str, float | int] = {
        **({"test_accuracy": mean(hits["test"])} if hits["test"] else {}),
        "dev_accuracy": mean(hits["dev"]),
        "test_items": len(hits["test"]),
        "steps": steps,
        "flops": finetuning_run_flops(
            architecture,
            config,
            model.num_labels,
            steps=steps,
            items=len(tokens_N),
            mean_length=float(tokens_N.mean()),
        ),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    return Finetuned(model, curve, facts)


def classification_batches(
    model: Any,
    tokens: Ragged,
    items: pd.DataFrame,
    vocabulary: Vocabulary,
    config: FinetuneConfig,
    *,
    max_length: int,
    seed: int,
    teaching: Teaching | None = None,
    device: str = "cpu",
) -> Batches:
    """The batches of fine-tuning on `items` (columns row and label), with what a teacher says of each if there is one.

    Raises ValueError if a teacher says something of more or of fewer items.
    """
    own_tokens = tokens.take(items["row"].to_numpy())
    targets = {"labels_B": torch.from_numpy(items["label"].to_numpy().astype(np.int64))}
    if teaching is not None:
        if len(teaching.probabilities_NC) != len(items):
            raise ValueError(f"a teacher speaks of {len(teaching.probabilities_NC)} items, of {len(items)} to train on")
        targets["teacher_BC"] = torch.from_numpy(teaching.probabilities_NC.astype(np.float32))
    pack = family_of(model.config).packer(model.config, device)

    def inputs(step: int, rows: Rows) -> Inputs:
        batch = pack(own_tokens, rows, vocabulary, max_length)
        places = rows[batch.order_B]
        return {"ids_R": batch.ids_R, "layout": batch.layout, **{name: each[places] for name, each in targets.items()}}

    return Batches(
        EpochOrder(len(items), config.batch_size, seed), inputs, teaching.loss if teaching is not None else own_loss
    )


def predict(
    model: Any,
    tokens: Ragged,
    rows: Rows,
    vocabulary: Vocabulary,
    max_length: int,
    precision: Precision = "float32",
    device: str = "cpu",
    batch_size: int = PREDICTED_AT_ONCE,
) -> NDArray[np.float32]:
    """What a classifier answers, without gradients; it is left in evaluation mode.

    Args:
        model: a classifier on `device`, with `logits(ids_R, layout)`.
        tokens: token ids of texts, without special tokens.
        rows: which of them to predict, int64 (N,).
        vocabulary: of the tokens.
        max_length: tokens of a sequence at most, [CLS] and [SEP] counted; longer texts are cut.
        precision: to compute in; "auto" is bfloat16 where the device has it.
        device: "cpu" or "cuda".
        batch_size: texts at a time. It has no effect on the result beyond rounding.

    Returns:
        Logits (N, C) float32, in the order of `rows`.

    Raises UserError if the memory does not hold a batch.
    """
    logits_NC = np.empty((len(rows), model.num_labels), dtype=np.float32)
    for batch, found in predictions(model, tokens, rows, vocabulary, max_length, precision, device, batch_size):
        logits_NC[batch] = found
    return logits_NC


def predictions(
    model: Any,
    tokens: Ragged,
    rows: Rows,
    vocabulary: Vocabulary,
    max_length: int,
    precision: Precision = "float32",
    device: str = "cpu",
    batch_size: int = PREDICTED_AT_ONCE,
) -> Iterator[tuple[Rows, NDArray[np.float32]]]:
    """Yield (places in `rows`, their logits (B, labels) float32) until every place came once."""
    model.eval()
    pack = family_of(model.config).packer(model.config, device)
    for batch in evaluation_batches(tokens.lengths[rows], batch_size):
        packed = pack(tokens, rows[batch], vocabulary, max_length)
        within_memory = out_of_memory_is(f"out of memory on {device} with a batch of {len(batch)} items to predict")
        with within_memory, torch.inference_mode(), autocast(precision, device):
            logits_BC = model.logits(packed.ids_R.to(device), packed.layout.to(device))
        yield batch[packed.order_B], logits_BC.float().cpu().numpy()


def accuracy(logits_NC: NDArray[np.float32], labels_N: NDArray[np.int64]) -> float:
    """Share of items whose highest logit is their label's; NaN for no items."""
    return mean((logits_NC.argmax(axis=1) == labels_N).tolist())


def mean(values: Sequence[float]) -> float:
    """The mean of the values; NaN if there are none."""
    return float(np.mean(values)) if len(values) else math.nan
