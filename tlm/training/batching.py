"""From ragged token ids to padded tensors: [CLS] ids [SEP] [PAD]…, as wide as the longest sequence of the batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from tlm.ragged import Ragged, Rows
from tlm.tokenizer import Vocabulary


def pad_batch(
    sequences: Ragged, rows: Rows, vocabulary: Vocabulary, max_length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return input_ids_BT and attention_mask_BT (int64, T ≤ max_length) for the sequences at `rows`.

    Sequences longer than max_length - 2 are cut, so that [CLS] and [SEP] always fit.
    """
    batch = sequences.take(rows)
    lengths = np.minimum(batch.lengths, max_length - 2)
    width = int(lengths.max(initial=0)) + 2
    ids = np.full((len(rows), width), vocabulary.pad, dtype=np.int64)
    columns = np.arange(len(batch.ids)) - np.repeat(batch.offsets[:-1], batch.lengths)
    inside = columns < max_length - 2
    ids[batch.sequence_of[inside], columns[inside] + 1] = batch.ids[inside]
    ids[:, 0] = vocabulary.cls
    ids[np.arange(len(rows)), lengths + 1] = vocabulary.sep
    mask = np.arange(width) < (lengths + 2)[:, None]
    return torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64))


def epoch_order(size: int, seed: int, epoch: int) -> Rows:
    """The order in which epoch number `epoch` visits the items: a function of seed and epoch alone."""
    return np.random.default_rng([seed, epoch, 0xBA7C4]).permutation(size).astype(np.int64)


def training_batches(size: int, batch_size: int, steps: int, seed: int) -> Iterator[tuple[int, Rows]]:
    """Yield (epoch, rows) for exactly `steps` batches; an epoch's last batch may be short."""
    done = epoch = 0
    while done < steps:
        order = epoch_order(size, seed, epoch)
        for start in range(0, size, batch_size):
            if done == steps:
                return
            yield epoch, order[start : start + batch_size]
            done += 1
        epoch += 1


def evaluation_batches(lengths: Rows, batch_size: int) -> Iterator[Rows]:
    """Batches of similar length, so that little is padded. The order of items has no effect on their results."""
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
