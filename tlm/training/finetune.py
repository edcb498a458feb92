"""Fine-tuning: classification from the [CLS] pooler (paper: AdamW 5e-5, batch 32), and evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from tlm.config import Architecture, FinetuneConfig, Precision
from tlm.modeling import TinyBertForSequenceClassification
from tlm.modeling.configuration import TinyBertConfig
from tlm.modeling.interchange import load_encoder_into_classifier
from tlm.ragged import Ragged, Rows
from tlm.tokenizer import Vocabulary
from tlm.training.batching import evaluation_batches, pad_batch, training_batches
from tlm.training.optimisation import Batch, Curve, Progress, autocast, train


@dataclass(frozen=True)
class Finetuned:
    model: TinyBertForSequenceClassification
    curve: Curve
    predictions: pd.DataFrame
    """row, part ("dev" or "test"), label, logits (list of float32, one for each label)."""
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
    pretrained: Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Finetuned:
    """Train a classifier on the items whose part is "train" and predict the dev and test items.

    Args:
        tokens: the task's source, tokenised; `items.row` points into it.
        items: columns row, label (0 … C - 1), part.
        pretrained: folder of a pre-trained model whose encoder to start from; None trains from scratch.

    The last epoch is the result: test items are looked at once, after it.

    Raises:
        NonFiniteLoss: if training diverges.
        UserError: if the pre-trained weights do not fit the architecture.
    """
    torch.manual_seed(seed)
    model = TinyBertForSequenceClassification(
        TinyBertConfig.from_architecture(
            architecture,
            vocab_size=len(vocabulary),
            max_position_embeddings=max_length,
            pad_token_id=vocabulary.pad,
            cls_token_id=vocabulary.cls,
            num_labels=int(items["label"].max()) + 1,
        )
    )
    if pretrained is not None:
        load_encoder_into_classifier(model, pretrained)
    model.to(device)
    train_items = items[items["part"] == "train"]
    train_tokens = tokens.take(train_items["row"].to_numpy())
    labels = torch.from_numpy(train_items["label"].to_numpy().astype(np.int64))
    steps_per_epoch = math.ceil(len(train_items) / config.batch_size)
    steps = config.epochs * steps_per_epoch

    def batches() -> Iterator[Batch]:
        for epoch, rows in training_batches(len(train_items), config.batch_size, steps, seed):
            ids_BT, mask_BT = pad_batch(train_tokens, rows, vocabulary, max_length)
            yield Batch(epoch, rows.tolist(), {"input_ids": ids_BT, "attention_mask": mask_BT, "labels": labels[rows]})

    held = items[items["part"] != "train"].reset_index(drop=True)
    dev = held[held["part"] == "dev"]
    curve = Curve()

    def evaluate(step: int, epoch: int) -> None:
        if step % steps_per_epoch == 0:
            logits_NC = predict(model, tokens, dev["row"].to_numpy(), vocabulary, max_length, config.precision, device)
            curve.add(step, epoch, dev_accuracy=accuracy(logits_NC, dev["label"].to_numpy()))
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
    logits_NC = predict(model, tokens, held["row"].to_numpy(), vocabulary, max_length, config.precision, device)
    predictions = held[["row", "part", "label"]].assign(logits=list(logits_NC))
    test = (held["part"] == "test").to_numpy()
    facts: dict[str, float | int] = {
        "test_accuracy": accuracy(logits_NC[test], held["label"].to_numpy()[test]),
        "dev_accuracy": accuracy(logits_NC[~test], held["label"].to_numpy()[~test]),
        "test_items": int(test.sum()),
        "steps": steps,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    return Finetuned(model, curve, predictions, facts)


@torch.inference_mode()
def predict(
    model: TinyBertForSequenceClassification,
    tokens: Ragged,
    rows: Rows,
    vocabulary: Vocabulary,
    max_length: int,
    precision: Precision = "float32",
    device: str = "cpu",
    batch_size: int = 128,
) -> NDArray[np.float32]:
    """Logits (len(rows), labels) float32, in the order of `rows`."""
    model.eval()
    logits = np.empty((len(rows), model.config.num_labels), dtype=np.float32)
    for batch in evaluation_batches(tokens.lengths[rows], batch_size):
        ids_BT, mask_BT = pad_batch(tokens, rows[batch], vocabulary, max_length)
        with autocast(precision, device):
            found = model(input_ids=ids_BT.to(device), attention_mask=mask_BT.to(device)).logits
        logits[batch] = found.float().cpu().numpy()
    return logits


def accuracy(logits_NC: NDArray[np.float32], labels_N: NDArray[np.int64]) -> float:
    """Share of items whose highest logit is their label's; NaN for no items."""
    return float((logits_NC.argmax(axis=1) == labels_N).mean()) if len(labels_N) else math.nan
