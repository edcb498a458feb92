"""All that a training step needs to be told, as one vector of int32 whose length is one of a few: made before training.

A captured step has no time to wait for Python, and its shapes are fixed. So order, masks and schedule of a whole epoch are
drawn ahead, with the functions that the ordinary loop draws them with (`EpochOrder`, `Masker`, `learning_rate`): the same
items and the same masks at the same rate, whichever engine trains. One copy then gives a step all of its inputs.

Shapes: S sequences, fillers included, R rows, N queries; S1 = S + 1. `tlm.modeling.packed` says what fillers are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from tlm.data.ragged import Ragged, Rows
from tlm.data.tokenizer import Vocabulary
from tlm.modeling.loss import IGNORED_LABEL
from tlm.modeling.packing import with_specials
from tlm.study.config import Optimisation
from tlm.training.batching import EpochOrder, epoch_order
from tlm.training.masking import Masker
from tlm.training.optimisation import learning_rate

Vector = NDArray[np.int32]

HEADER = 8
"""Places before the tokens: the step's number, and float32 by their bits: `Scalars`, and the batch's `loss_scale`."""
STEP, COUNT, RATE, DECAY, STEP_SIZE, VARIANCE_SCALE, LOSS_SCALE = range(7)
LABEL_BITS = 16
NO_LABEL = (1 << LABEL_BITS) - 1
MOST_ROWS = 1 << 15
BETAS = (0.9, 0.999)
"""AdamW's, torch's defaults."""
SPARE = 4
"""The fewest sequences beside the batch's own, which hold the rows and queries that are left over."""


@dataclass(frozen=True)
class Size:
    """Rows, queries and sequences of a batch with its fillers."""

    rows: int
    queries: int
    sequences: int

    @property
    def parts(self) -> tuple[int, int, int, int]:
        """Lengths of what follows the header: tokens, queries, starts of the sequences' rows and of their queries.

        Each a multiple of four, so that every part begins at a multiple of 16 bytes.
        """
        starts = _up(self.sequences + 1, 4)
        return _up(self.rows, 4), _up(self.queries, 4), starts, starts

    @property
    def length(self) -> int:
        return HEADER + sum(self.parts)


@dataclass(frozen=True)
class Batch:
    """A batch without fillers: tokens of sequence after sequence, and of each sequence at least one query.

    A query is a row and a label, or NO_LABEL. `loss_scale`: 1 / the number of labels, 0 if there is none.
    """

    ids_R: Rows
    lengths_B: Rows
    query_rows_N: Rows
    query_labels_N: Rows

    @staticmethod
    def empty() -> Batch:
        """No sequence at all: a batch for a size to be captured with."""
        nothing = np.empty(0, dtype=np.int64)
        return Batch(nothing, nothing, nothing, nothing)

    @cached_property
    def loss_scale(self) -> float:
        labels = int((self.query_labels_N != NO_LABEL).sum())
        return 1 / labels if labels else 0.0


@dataclass(frozen=True)
class Scalars:
    """What a step's number and rate of learning mean to AdamW: factors for weights, update and second moment.

    `step` counts from 0, `count` from 1. The default is a step that changes no weight.
    """

    step: int = 0
    count: int = 1
    rate: float = 0.0
    decay: float = 1.0
    step_size: float = 0.0
    variance_scale: float = 1.0

    @staticmethod
    def of(config: Optimisation, step: int, steps: int, steps_per_epoch: int) -> Scalars:
        """Of 0-based `step`."""
        rate = learning_rate(config, step, steps, steps_per_epoch)
        first, second = (1 - beta ** (step + 1) for beta in BETAS)
        decay = 1 - rate * config.weight_decay
        return Scalars(step, step + 1, rate, decay, rate / first, 1 / math.sqrt(second))

    def write(self, vector: Vector) -> None:
        """Into a vector's header."""
        vector[STEP] = self.step
        numbers = (self.count, self.rate, self.decay, self.step_size, self.variance_scale)
        vector[COUNT:LOSS_SCALE] = np.array(numbers, dtype=np.float32).view(np.int32)


def language_batch(
    sequences: Ragged, items: Rows, vocabulary: Vocabulary, max_length: int, masker: Masker, step: int
) -> Batch:
    """A batch of masked language modelling, with the masks that `masked_inputs` draws for this step."""
    ids_R, lengths_B, _ = flat_rows(sequences, items, vocabulary, max_length)
    corrupted, labels = masker(torch.from_numpy(ids_R), step)
    labels_R = labels.numpy()
    rows_N = np.flatnonzero(labels_R != IGNORED_LABEL)
    # A sequence without a single query is an odd case to attention's kernels: [CLS] is queried, and has no label.
    ends_B = np.cumsum(lengths_B)
    counts_B = np.diff(np.searchsorted(rows_N, np.concatenate([[0], ends_B])))
    rows_N = np.sort(np.concatenate([rows_N, (ends_B - lengths_B)[counts_B == 0]]))
    found_N = labels_R[rows_N]
    return Batch(corrupted.numpy(), lengths_B, rows_N, np.where(found_N == IGNORED_LABEL, NO_LABEL, found_N))


def labelled_batch(
    sequences: Ragged, labels: Rows, items: Rows, vocabulary: Vocabulary, max_length: int
) -> tuple[Batch, Rows]:
    """A batch of classification, each sequence queried at [CLS], and which of `items` each sequence is."""
    ids_R, lengths_B, order_B = flat_rows(sequences, items, vocabulary, max_length)
    return Batch(ids_R, lengths_B, np.cumsum(lengths_B) - lengths_B, labels[items[order_B]]), order_B


def flat_rows(sequences: Ragged, items: Rows, vocabulary: Vocabulary, max_length: int) -> tuple[Rows, Rows, Rows]:
    """The sequences at `items` as [CLS] ids [SEP], longest first (as `pack` has them): ids, lengths, and their order."""
    lengths = with_specials(sequences.lengths[items], max_length)
    order = np.argsort(-lengths, kind="stable")
    items, lengths = items[order], lengths[order]
    starts = np.cumsum(lengths) - lengths
    ids = np.empty(int(lengths.sum()), dtype=np.int64)
    inner = np.ones(len(ids), dtype=bool)
    inner[starts] = inner[starts + lengths - 1] = False
    ids[starts], ids[starts + lengths - 1] = vocabulary.cls, vocabulary.sep
    from_R = np.arange(len(ids)) - np.repeat(starts + 1 - sequences.offsets[items], lengths)
    ids[inner] = sequences.ids[from_R[inner]]
    return ids, lengths, order


# --- sizes ---


def plan_sizes(
    rows_T: Rows, items_T: Rows, *, max_length: int, mlm_probability: float | None, multiple: int = 128, most: int = 9
) -> tuple[Size, ...]:
    """A few sizes for batches of so many rows and items, T batches of them: the fewest rows are added in all but few.

    Args:
        mlm_probability: share of rows that are queried; None: one query for each sequence.
        multiple: of which the rows are one. Products of 128 rows fill the tiles of a GPU's kernels.
        most: how many sizes.

    Half of a hundred batches may be so short, or so long, that no size is meant for them alone.
    """
    batch = int(items_T.max())
    full_T = rows_T[items_T == batch]
    low, high = (_up(int(np.quantile(full_T, q)) + SPARE, multiple) for q in (0.01, 0.995))
    stride = multiple * math.ceil(max(high - low, 1) / (multiple * max(most - 2, 1)))
    regular = {*range(low, high, stride), high}
    gap = max(low - int(full_T.min()), 2 * stride, int(full_T.max()) + multiple - high)
    spare = max(SPARE, math.ceil(gap / max_length) + 1)
    # Who has many masked positions for its rows takes the next size: twice the stride may be left over.
    chosen = sorted(regular | {_up(int(rows_T.max()) + spare, multiple)})
    if mlm_probability is None:
        return tuple(Size(rows, batch + spare, batch + spare) for rows in chosen)
    deviations = [1.5] * (len(chosen) - 1) + [6.0]
    queries = [
        _expected_queries(*given) for given in zip(chosen, [mlm_probability] * len(chosen), deviations, strict=True)
    ]
    spare = max(spare, math.ceil(max(queries) / max_length))
    # A sequence without a masked position has a query all the same.
    return tuple(
        Size(rows, _up(count + spare + 4, 32), batch + spare) for rows, count in zip(chosen, queries, strict=True)
    )


def _expected_queries(rows: int, probability: float, deviations: float) -> int:
    return math.ceil(probability * rows + deviations * math.sqrt(probability * (1 - probability) * rows))


def fits(size: Size, batch: Batch, max_length: int) -> bool:
    """Whether the left-over rows and queries can be dealt to the left-over sequences."""
    unused = size.sequences - len(batch.lengths_B)
    left = (size.rows - len(batch.ids_R), size.queries - len(batch.query_rows_N))
    return unused >= 0 and all(unused <= count <= unused * max_length for count in left)


def exact_size(batch: Batch) -> Size:
    """The size that holds one batch and nothing but one filler."""
    return Size(len(batch.ids_R) + 1, len(batch.query_rows_N) + 1, len(batch.lengths_B) + 1)


# --- vectors ---


def vector(batch: Batch, size: Size, scalars: Scalars, pad: int) -> Vector:
    """The batch with fillers, as `tlm.training.captured` reads it. ValueError if a number does not fit its bits."""
    largest = int(batch.ids_R.max(initial=0))
    if size.rows > MOST_ROWS or largest >= NO_LABEL:
        raise ValueError(f"{size.rows} rows, or token {largest}, are too many for their bits")
    unused = size.sequences - len(batch.lengths_B)
    lengths_S = np.concatenate([batch.lengths_B, _dealt(size.rows - len(batch.ids_R), unused)])
    starts_S1 = np.concatenate([[0], np.cumsum(lengths_S)])
    own_counts = np.diff(np.searchsorted(batch.query_rows_N, starts_S1[: len(batch.lengths_B) + 1]))
    filler_counts = _dealt(size.queries - len(batch.query_rows_N), unused)
    queries_S1 = np.concatenate([[0], np.cumsum(np.concatenate([own_counts, filler_counts]))])
    filler_rows = np.repeat(starts_S1[len(batch.lengths_B) : -1], filler_counts)

    positions_R = np.arange(size.rows) - np.repeat(starts_S1[:-1], lengths_S)
    ids_R = np.full(size.rows, pad)
    ids_R[: len(batch.ids_R)] = batch.ids_R
    rows_N = np.concatenate([batch.query_rows_N, filler_rows])
    labels_N = np.full(size.queries, NO_LABEL)
    labels_N[: len(batch.query_labels_N)] = batch.query_labels_N

    out = np.zeros(size.length, dtype=np.int32)
    scalars.write(out)
    out[LOSS_SCALE] = np.float32(batch.loss_scale).view(np.int32)
    start = HEADER
    packed = (ids_R | positions_R << LABEL_BITS, labels_N | rows_N << LABEL_BITS, starts_S1, queries_S1)
    for part, length in zip(packed, size.parts, strict=True):
        out[start : start + len(part)] = part
        start += length
    return out


def _up(count: int, multiple: int) -> int:
    return count + -count % multiple


def _dealt(count: int, to: int) -> Rows:
    """`count` in `to` nearly equal shares."""
    if not to:
        return np.empty(0, dtype=np.int64)
    return count // to + (np.arange(to) < count % to)


# --- a run ---


@dataclass(frozen=True)
class Run:
    """Everything that the batches of a run follow from. `labels`: of classification; None: masked language modelling."""

    sequences: Ragged
    vocabulary: Vocabulary
    config: Optimisation
    max_length: int
    seed: int
    steps: int
    sizes: tuple[Size, ...]
    labels: Rows | None = None
    mlm_probability: float = 0.15

    @property
    def order(self) -> EpochOrder:
        return EpochOrder(len(self.sequences), self.config.batch_size, self.seed)

    @property
    def epochs(self) -> int:
        return math.ceil(self.steps / self.order.steps_per_epoch)


@dataclass(frozen=True)
class Epoch:
    """The vectors of an epoch's steps, one after another; `sizes_T` says of which size each is."""

    number: int
    vectors: Vector
    sizes_T: Rows


def rows_of_steps(sequences: Ragged, config: Optimisation, seed: int, max_length: int, steps: int) -> tuple[Rows, Rows]:
    """Rows and items of every step of a run, without fillers."""
    lengths = with_specials(sequences.lengths, max_length)
    per_epoch = math.ceil(len(sequences) / config.batch_size)
    starts = np.arange(0, len(sequences), config.batch_size)
    rows = [
        np.add.reduceat(lengths[epoch_order(len(sequences), seed, epoch)], starts)
        for epoch in range(math.ceil(steps / per_epoch))
    ]
    items = np.minimum(config.batch_size, len(sequences) - starts)
    return np.concatenate(rows)[:steps], np.tile(items, len(rows))[:steps]


def prepare_epoch(run: Run, epoch: int) -> Epoch:
    """The vectors of 0-based `epoch`, up to the run's last step. ValueError if a batch fits none of the sizes."""
    per_epoch = run.order.steps_per_epoch
    masker = Masker(run.vocabulary, run.mlm_probability, run.seed)
    vectors, sizes = [], []
    for step in range(epoch * per_epoch, min((epoch + 1) * per_epoch, run.steps)):
        _, items = run.order.batch(step)
        if run.labels is None:
            # `train` counts steps from 1 when it asks for inputs.
            batch = language_batch(run.sequences, items, run.vocabulary, run.max_length, masker, step + 1)
        else:
            batch, _ = labelled_batch(run.sequences, run.labels, items, run.vocabulary, run.max_length)
        index = next((i for i, size in enumerate(run.sizes) if fits(size, batch, run.max_length)), None)
        if index is None:
            raise ValueError(f"step {step}: {len(batch.ids_R)} rows, {len(batch.query_rows_N)} queries fit no size")
        scalars = Scalars.of(run.config, step, run.steps, per_epoch)
        vectors.append(vector(batch, run.sizes[index], scalars, run.vocabulary.pad))
        sizes.append(index)
    return Epoch(epoch, np.concatenate(vectors), np.array(sizes))
