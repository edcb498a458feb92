"""Latency of BERT-6, of the shallow variants and of committees of them: `python -m benchmarks.latency`.

Is a committee of shallow models faster than the deep one (arXiv 2507.14871)? Timed is the way from tokenised texts to
scores, as `tlm predict` goes it, with random weights at the paper's sizes: 128 positions, 64 labels. The tokenizer,
common to all, is left out. Texts are FewRel sentences if TLM_DATA_ROOT is set, else random tokens as long as these are:
normal with mean 31 and standard deviation 8, [CLS] and [SEP] included, cut to 9 … 72 (val_wiki.json has 31.0 and 8.1).

Contenders take turns in rounds, each time in another order. p50 is the median of the rounds' medians, p95 that of every
call; the first call of each is left out. A committee's members run one after another on the setting's threads; with two
threads or more also so many members at a time, one thread each, by threads and by processes. n × a variant has copies
with weights of their own, as many as no cache holds. bfloat16 is tlm's `precision: bfloat16`.

Costs stand beside the times: parameters, FLOPs of one item of mean length (`tlm.modeling.cost`), and sequential depth
(`sequential_depth`), which is what bounds the time on a perfectly parallel machine. What such
a machine would take for a committee is taken to be its slowest member's time alone.

Run it on a quiet machine (all of it takes about half an hour on two cores): the report says how many cores others kept
busy, and threads that wait for each other are many times slower when one of them has to wait for its core.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from benchmarks.latency_report import Row, findings, write
from benchmarks.latency_systems import (
    ALONE,
    COUNTS,
    ONE_BY_ONE,
    PROCESSES,
    THREADS,
    Call,
    Runner,
    Scale,
    System,
    cost,
    systems,
)
from tlm.data.ragged import Ragged
from tlm.data.tokenizer import Vocabulary
from tlm.data.wordpiece import read_vocabulary
from tlm.data.wordpiece_training import SPECIAL_TOKENS
from tlm.errors import UserError
from tlm.machine.allocator import keep_heap
from tlm.machine.runtime import PACKAGE_PARENT, Runtime
from tlm.modeling.cost import count_parameters
from tlm.study.architecture import SHALLOW
from tlm.study.base import Precision

BATCHES = (1, 64)
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
LEAST_CALLS = 1
KEPT = 512
"""Different items; a batch takes the next ones, and begins again at the end."""


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Measure, print and save. Raises UserError for bad input, before any measurement."""
    options = _parser().parse_args(arguments)
    keep_heap()  # as `tlm predict` does
    device = Runtime(device=options.device).torch_device()
    vocabulary, tokens, source = texts(options.max_length)
    scale = Scale(options.head_size, options.conv_channels, len(vocabulary), options.max_length)
    length = round(float(np.minimum(tokens.lengths, scale.max_length - 2).mean())) + 2
    chosen = _chosen(systems(scale, options.repeat, options.count or COUNTS), options.model)
    print(f"{len(chosen)} systems on {device}; {source}, {length} tokens on average")
    runner = Runner(scale, vocabulary, device)
    rows = []
    try:
        for precision, threads, batch in _settings(options, device):
            contenders = [(system, how) for system in chosen for how in _ways(system, threads, device)]
            calls = [runner.call(system, how, precision, threads) for system, how in contenders]
            before = _cpu_seconds()
            times = alternate(calls, tokens, batch, options.rounds, options.seconds)
            others = _others(before, _cpu_seconds())
            for (system, how), measured in zip(contenders, times, strict=True):
                row = Row.of(system.name, how, precision, threads, batch, len(system.members), measured)
                rows.append(replace(row.costing(cost(system, scale, length)), others=others))
            print(f"{precision}, {threads} threads, batch {batch}: measured", flush=True)
        for system in chosen:  # what is in the table is what was run
            assert sum(count_parameters(runner.models[m]) for m in system.members) == cost(system, scale, 1).parameters
    finally:
        runner.close()
    about = {"texts": f"{source}, {length} tokens on average", "device": device, "arguments": " ".join(sys.argv[1:])}
    write(rows, Path(options.out), about)
    print("\n".join(findings(rows)))
    print(f"Tables and plot: {options.out}")
    return rows


def alternate(
    calls: Sequence[tuple[int, Call]], tokens: Ragged, batch: int, rounds: int, seconds: float
) -> list[list[list[float]]]:
    """Seconds of each call, of each round, of each contender; at least one call a round, more for `seconds`."""
    times: list[list[list[float]]] = [[] for _ in calls]
    for turn in range(rounds + 1):
        for place in range(len(calls)):
            index = (place + turn) % len(calls)
            threads, call = calls[index]
            torch.set_num_threads(threads)
            batches = _batches(tokens, batch, turn)
            if turn == 0:
                call(next(batches))
            else:
                times[index].append(_timed(call, batches, seconds))
    return times


def _timed(call: Call, batches: Iterator[Ragged], seconds: float) -> list[float]:
    found: list[float] = []
    end = time.perf_counter() + seconds
    while len(found) < LEAST_CALLS or time.perf_counter() < end:
        tokens = next(batches)
        start = time.perf_counter()
        call(tokens)
        found.append(time.perf_counter() - start)
    return found


def _batches(tokens: Ragged, size: int, turn: int) -> Iterator[Ragged]:
    """Batches without end; the same ones for every contender of a turn."""
    first = turn * 101
    while True:
        yield tokens.take(np.arange(first, first + size) % len(tokens))
        first += size


def _cpu_seconds() -> tuple[float, float, float]:
    """Now; CPU seconds used on the whole machine so far; and those of them that are this benchmark's."""
    times = psutil.cpu_times()
    own = psutil.Process()
    mine = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    return time.monotonic(), sum(times) - times.idle, sum(t.user + t.system for t in mine)


def _others(before: tuple[float, float, float], after: tuple[float, float, float]) -> float:
    """Cores that other processes kept busy in between: what takes turns with them on a core is not worth measuring."""
    wall, machine, mine = (b - a for a, b in zip(before, after, strict=True))
    return max(0.0, machine - mine) / wall


def texts(max_length: int) -> tuple[Vocabulary, Ragged, str]:
    """The vocabulary, KEPT tokenised items (without [CLS] and [SEP]), and what they are."""
    if os.environ.get("TLM_DATA_ROOT"):
        from benchmarks.workload import prepare

        with tempfile.TemporaryDirectory() as folder:
            workload = prepare("few_rel", Path(folder), max_length)
            vocabulary = read_vocabulary(workload.vocabulary_file)
        return vocabulary, workload.tokens.take(np.arange(KEPT)), "FewRel sentences (val_wiki)"
    generator = np.random.default_rng(0)
    lengths = np.clip(np.rint(generator.normal(31, 8, KEPT)), 9, min(72, max_length)).astype(np.int64) - 2
    specials = len(SPECIAL_TOKENS)
    names = (*SPECIAL_TOKENS, *(f"t{i}" for i in range(Scale.vocab_size - specials)))
    items = [generator.integers(specials, Scale.vocab_size, length) for length in lengths]
    return Vocabulary(names, 0, 1, 2, 3, 4), Ragged.from_lists(items), "random tokens as long as FewRel sentences"


def _settings(options: argparse.Namespace, device: str) -> Iterator[tuple[Precision, int, int]]:
    cores = os.cpu_count() or 1
    threads = options.threads or sorted({1, min(2, cores), cores})
    for precision in options.precision or PRECISIONS:
        for count in [1] if device == "cuda" else threads:
            for batch in options.batch or BATCHES:
                yield precision, count, batch


def _ways(system: System, threads: int, device: str) -> list[str]:
    if len(system.members) == 1:
        return [ALONE]
    return [ONE_BY_ONE, THREADS, PROCESSES] if threads > 1 and device == "cpu" else [ONE_BY_ONE]


def _chosen(every: list[System], parts: Sequence[str] | None) -> list[System]:
    found = [system for system in every if not parts or any(fnmatchcase(system.name, part) for part in parts)]
    if not found:
        raise UserError(f"--model {' '.join(parts or ())}: no such system.", f"There are {[s.name for s in every]}.")
    return found


def _parser() -> argparse.ArgumentParser:
    positive: dict[str, Any] = {"type": int, "action": "append"}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender (default 5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a turn, one call at least (default 1)")
    parser.add_argument("--model", action="append", help="only systems named so, as 'bert1?' or 'five*'")
    parser.add_argument("--batch", **positive, help="batch size (default 1 and 64)")
    parser.add_argument("--threads", **positive, help="torch's threads (default 1, 2 and all)")
    parser.add_argument("--precision", action="append", choices=PRECISIONS, help="default: both")
    parser.add_argument("--repeat", default="bert1a", choices=SHALLOW, help="the variant of n × (default bert1a)")
    parser.add_argument("--count", **positive, help=f"the n of n × (default {', '.join(map(str, COUNTS))})")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--head-size", type=int, default=Scale.head_size, help="hidden_size / heads (paper: 64)")
    parser.add_argument("--conv-channels", type=int, help="channels of each conv front (default: the paper's)")
    parser.add_argument("--max-length", type=int, default=Scale.max_length, help="positions (paper: 128)")
    parser.add_argument("--out", default=str(PACKAGE_PARENT / "data" / "benchmarks"), help="folder of the results")
    return parser


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
