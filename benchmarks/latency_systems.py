"""What is timed by `benchmarks.latency`: single models and committees, what they cost, and the ways to run them."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tlm.data.ragged import Ragged
from tlm.data.tokenizer import Vocabulary
from tlm.evaluation.committee import combine
from tlm.modeling import TinyBertConfig, TinyBertForSequenceClassification
from tlm.modeling.cost import classifier_flops, expected_parameters, sequential_depth
from tlm.study.architecture import SHALLOW, VARIANTS, Architecture, variant
from tlm.study.base import Precision
from tlm.training.finetune import predict

DEEP = "bert6"
COUNTS = (2, 4, 8, 16, 32)
OUT_OF_CACHE = 256 << 20
"""Bytes of weights that no last-level cache holds: so many are read before the same member's turn comes again."""

ALONE, ONE_BY_ONE = "alone", "one after another"
THREADS, PROCESSES = "threads", "processes"

Member = tuple[str, int]
"""A variant, and which copy of it: copies have weights of their own."""
Logits = NDArray[np.float32]
Call = Callable[[Ragged], Any]


@dataclass(frozen=True)
class Scale:
    """The size at which the variants are built. The default is the paper's, with FewRel's 64 labels."""

    head_size: int = 64
    conv_channels: int | None = None
    vocab_size: int = 30_522
    max_length: int = 128
    num_labels: int = 64

    def architecture(self, name: str) -> Architecture:
        channels = self.conv_channels if VARIANTS[name].conv_kernel_sizes else None
        return variant(name, head_size=self.head_size, conv_channels=channels)


@dataclass(frozen=True)
class System:
    """One model, or a committee."""

    name: str
    members: tuple[Member, ...]

    @property
    def variants(self) -> list[str]:
        return [name for name, _ in self.members]


@dataclass(frozen=True)
class Cost:
    """`parameters` and `flops` (forward pass, one item) of all members; `depth` of the deepest (`sequential_depth`)."""

    parameters: int
    flops: int
    depth: int


def systems(scale: Scale, repeated: str = "bert1a", counts: Sequence[int] = COUNTS) -> list[System]:
    """BERT-6, each shallow variant, the first two, all five, and n × one variant."""
    singles = [System(name, ((name, 0),)) for name in (DEEP, *SHALLOW)]
    some = [System(f"{label} ({SHALLOW[0]} to {SHALLOW[n - 1]})", tuple((name, 0) for name in SHALLOW[:n]))
            for label, n in (("two", 2), ("five", len(SHALLOW)))]  # fmt: skip
    copies = _copies(scale, repeated)
    many = [System(f"{n} × {repeated}", tuple((repeated, i % copies) for i in range(n))) for n in counts]
    return singles + some + many


def _copies(scale: Scale, name: str) -> int:
    """Copies of a variant that are as good as any number of them: in turn they are always read from memory anew."""
    size = expected_parameters(scale.architecture(name), vocab_size=0, max_position_embeddings=0, num_labels=0)
    return math.ceil(OUT_OF_CACHE / (4 * size))


def cost(system: System, scale: Scale, length: int) -> Cost:
    """For one item of `length` tokens, [CLS] and [SEP] counted. Members do not wait for each other."""
    shapes = [scale.architecture(name) for name in system.variants]
    sizes = {"vocab_size": scale.vocab_size, "max_position_embeddings": scale.max_length}
    return Cost(
        parameters=sum(expected_parameters(shape, **sizes, num_labels=scale.num_labels) for shape in shapes),
        flops=sum(classifier_flops(shape, length, scale.num_labels) for shape in shapes),
        depth=max(sequential_depth(shape) for shape in shapes),
    )


def shares(members: Iterable[Member], workers: int, scale: Scale) -> list[list[Member]]:
    """Members for each worker: the most expensive first, each to whoever has least to do (by FLOPs)."""
    price = {name: classifier_flops(scale.architecture(name), 32, scale.num_labels) for name in (DEEP, *SHALLOW)}
    loads, given = [0] * workers, [list[Member]() for _ in range(workers)]
    for member in sorted(members, key=lambda member: -price[member[0]]):
        worker = loads.index(min(loads))
        loads[worker] += price[member[0]]
        given[worker].append(member)
    return [share for share in given if share]


class Models:
    """Members with random weights, built when first asked for. Copies of a variant share their embeddings."""

    def __init__(self, scale: Scale, vocabulary: Vocabulary, device: str) -> None:
        self.scale, self.vocabulary, self.device = scale, vocabulary, device
        self.built: dict[Member, Any] = {}

    def __getitem__(self, member: Member) -> Any:
        if member not in self.built:
            name, copy = member
            config = TinyBertConfig.from_architecture(
                self.scale.architecture(name),
                vocab_size=len(self.vocabulary),
                max_position_embeddings=self.scale.max_length,
                pad_token_id=self.vocabulary.pad,
                cls_token_id=self.vocabulary.cls,
                num_labels=self.scale.num_labels,
            )
            torch.manual_seed(copy)
            model = TinyBertForSequenceClassification(config)
            if copy:  # a few rows are read at a time: tables of their own would only fill the memory
                model.bert.embeddings = self[name, 0].bert.embeddings
            self.built[member] = model.to(self.device)
        return self.built[member]

    def run(self, members: Sequence[Member], precision: Precision, tokens: Ragged) -> Logits:
        """Logits (members, items, labels), one member after another, as `tlm predict` makes them."""
        rows = np.arange(len(tokens))
        length, batch = self.scale.max_length, len(tokens)
        return np.stack([
            predict(self[member], tokens, rows, self.vocabulary, length, precision, self.device, batch)
            for member in members
        ])  # fmt: skip


class Runner:
    """Runs systems in one of several ways. Close it: it keeps threads and processes."""

    def __init__(self, scale: Scale, vocabulary: Vocabulary, device: str) -> None:
        self.models = Models(scale, vocabulary, device)
        self.pools: dict[int, ThreadPoolExecutor] = {}
        self.children: list[tuple[Any, Connection]] = []

    def call(self, system: System, how: str, precision: Precision, threads: int) -> tuple[int, Call]:
        """(torch's threads in this process, a call that predicts one batch and combines it by the soft rule)."""
        members = system.members
        if how == ALONE:
            return threads, partial(self.models.run, members, precision)
        if how == ONE_BY_ONE:
            return threads, lambda tokens: combine(self.models.run(members, precision, tokens), "soft")
        given = shares(members, threads, self.models.scale)
        if how == THREADS:
            for member in members:
                self.models[member]  # here and now, not by two threads at once
            return 1, lambda tokens: combine(self._by_threads(given, precision, tokens), "soft")
        return 1, lambda tokens: combine(self._by_processes(given, precision, tokens), "soft")

    def _by_threads(self, given: list[list[Member]], precision: Precision, tokens: Ragged) -> Logits:
        if len(given) not in self.pools:
            self.pools[len(given)] = ThreadPoolExecutor(len(given), initializer=torch.set_num_threads, initargs=(1,))
        pool = self.pools[len(given)]
        return np.concatenate([*pool.map(lambda share: self.models.run(share, precision, tokens), given)])

    def _by_processes(self, given: list[list[Member]], precision: Precision, tokens: Ragged) -> Logits:
        while len(self.children) < len(given):
            self.children.append(_start(self.models.scale, self.models.vocabulary, self.models.device))
        working = [connection for _, connection in self.children[: len(given)]]
        for connection, share in zip(working, given, strict=True):
            connection.send((share, precision, tokens.ids, tokens.offsets))
        return np.concatenate([connection.recv() for connection in working])

    def close(self) -> None:
        for pool in self.pools.values():
            pool.shutdown()
        for process, connection in self.children:
            connection.close()  # the child reads the end of it, and ends
            process.join()


def _start(scale: Scale, vocabulary: Vocabulary, device: str) -> tuple[Any, Connection]:
    # Not forked: a child would inherit torch's threads in whatever state they are.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, scale, vocabulary, device), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def _serve(connection: Connection, scale: Scale, vocabulary: Vocabulary, device: str) -> None:
    torch.set_num_threads(1)
    models = Models(scale, vocabulary, device)
    while True:
        try:
            share, precision, ids, offsets = connection.recv()
        except EOFError:
            return
        connection.send(models.run(share, precision, Ragged(ids, offsets)))
