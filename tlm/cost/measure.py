"""Measuring an optimiser step: pre-training and fine-tuning themselves, on made-up text, stopped after a few seconds.

It is imported by the processes of `tlm.cost.calibration` alone, for it needs torch.
"""

from __future__ import annotations

import gc
import math
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch

from tlm.cost.estimate import Workload
from tlm.data.ragged import Ragged, Rows
from tlm.data.tokenizer import Vocabulary
from tlm.data.wordpiece_training import SPECIAL_TOKENS
from tlm.machine.memory import limit_memory
from tlm.machine.precision import processor
from tlm.machine.runtime import Runtime
from tlm.modeling.cost import TRAINING
from tlm.modeling.families.base import family_of
from tlm.training.finetune import finetune
from tlm.training.hooks import Hook, Run
from tlm.training.memory import no_substitutes, out_of_memory_is
from tlm.training.pretrain import pretrain

WARM_UP, TIMED = 2, 2
"""The least number of steps before the clock starts, and while it runs."""
WARM_UP_SHARE = 0.25
"""The warm-up takes so much of the time to measure, in addition: products of a new shape are compiled first."""
BATCHES = 32
"""How many batches of random tokens are made; after the last the first comes again."""
SPREAD = 0.6
"""Standard deviation of the logarithm of a text's length before it is cut at the longest."""
ENDLESS = 10**9
"""Optimiser steps, or epochs, that no measurement reaches."""
SLOW_STEP = 3e11
"""Operations of an optimiser step that a core takes seconds for; larger ones are measured by a part of a batch on a CPU."""


class _Enough(Exception):
    """Raised by the stopwatch once it has seen enough steps: it ends the training."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one optimiser step, and from the call to its first step beyond what the steps themselves took."""

    step: float
    set_up: float


class Stopwatch(Hook):
    """Times the steps of a run, and ends it when they are enough.

    A GPU is waited for when the clock starts and when it stops, not in between.
    """

    def __init__(self, seconds: float, device: str) -> None:
        self.seconds, self.device = seconds, device
        self.steps = self.warm_steps = 0
        self.began = self._now()
        self.warm = self.ended = math.nan

    def after_step(self, run: Run) -> None:
        self.steps = run.step
        if not self.warm_steps:
            if self.steps >= WARM_UP and perf_counter() - self.began >= WARM_UP_SHARE * self.seconds:
                self.warm, self.warm_steps = self._now(), self.steps
        elif self.steps - self.warm_steps >= TIMED and perf_counter() - self.warm >= self.seconds:
            self.ended = self._now()
            raise _Enough

    @property
    def timing(self) -> Timing:
        step = (self.ended - self.warm) / (self.steps - self.warm_steps)
        return Timing(step, max(0.0, self.warm - self.began - self.warm_steps * step))

    def _now(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return perf_counter()


def prepare(runtime: Runtime) -> tuple[str, str]:
    """Make this process what a training process is; its device, for torch and for people."""
    torch.set_num_threads(runtime.threads)
    device = runtime.torch_device()
    if device == "cuda":
        return device, torch.cuda.get_device_name()
    limit_memory(runtime.memory_gib)
    no_substitutes()
    return device, f"CPU ({processor()})"


def measure(workload: Workload, device: str, seconds: float) -> dict[str, float]:
    """Train for about `seconds` after a warm-up, at least TIMED steps; a `Timing` as a dict.

    Of a part of a batch the time is scaled up. The optimiser's own, which no batch size changes, is then too large.

    Raises:
        UserError: if the memory does not hold a batch.
    """
    gc.collect()  # the model before this one
    stopwatch = Stopwatch(seconds, device)
    whole = workload.training.batch_size
    part = batch_to_measure(workload) if device == "cpu" else whole
    try:
        with out_of_memory_is(f"out of memory on {device} while calibrating {workload.name}"):
            _train(workload, part, device, stopwatch)
    except _Enough:
        pass
    timing = stopwatch.timing
    return asdict(replace(timing, step=timing.step * whole / part))


def batch_to_measure(workload: Workload) -> int:
    """As many texts of a batch as make a step of no more than SLOW_STEP operations; one at least."""
    fit = int(SLOW_STEP / (TRAINING * workload.forward_flops(workload.mean_length)))
    return max(1, min(workload.training.batch_size, fit))


def _train(workload: Workload, batch_size: int, device: str, stopwatch: Stopwatch) -> None:
    """Train without an end, in steps too small to diverge on text without sense."""
    vocabulary = made_up_vocabulary(workload.vocab_size)
    lengths = (workload.mean_length, workload.max_length, workload.vocab_size)
    common: dict[str, Any] = {"max_length": workload.max_length, "seed": 0, "device": device, "hooks": [stopwatch]}
    change = {"learning_rate": 1e-6, "max_steps": None, "batch_size": batch_size}
    if workload.pretrain is not None:
        endless = workload.pretrain.model_copy(
            update={**change, "epochs": None, "steps": ENDLESS, "embedding_init": "normal"}
        )
        texts = _readable(workload, made_up_texts(*lengths, BATCHES * endless.batch_size))
        pretrain(texts, texts, vocabulary, workload.architecture, endless, **common)
    if workload.finetune is not None:
        tuning = workload.finetune.model_copy(update={**change, "epochs": ENDLESS})
        texts = _readable(workload, made_up_texts(*lengths, max(BATCHES * tuning.batch_size, workload.labels)))
        rows = np.arange(len(texts))
        items = pd.DataFrame({"row": rows, "label": rows % workload.labels, "part": "train"})
        finetune(texts, items, vocabulary, workload.architecture, tuning, **common, sink=lambda predictions: None)


def _readable(workload: Workload, texts: Ragged) -> Ragged:
    return family_of(workload.architecture).made_up(texts, workload.architecture)


def made_up_vocabulary(size: int) -> Vocabulary:
    """The special tokens, and numbers."""
    return Vocabulary((*SPECIAL_TOKENS, *map(str, range(size - len(SPECIAL_TOKENS)))), 0, 1, 2, 3, 4)


def made_up_texts(mean_length: int, max_length: int, vocab_size: int, count: int) -> Ragged:
    """So many texts of random tokens, no special ones; their lengths vary, and [CLS] and [SEP] count in the mean."""
    lengths = lengths_around(mean_length - 2, max_length - 2, count)
    ids = np.random.default_rng(0).integers(len(SPECIAL_TOKENS), vocab_size, lengths.sum(), dtype=np.uint16)
    return Ragged(ids, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def lengths_around(mean: float, longest: int, count: int) -> Rows:
    """Log-normal lengths of 1 to `longest`, cut there, scaled so that their mean is `mean` (within a token)."""
    spread = np.random.default_rng(0).lognormal(sigma=SPREAD, size=count)

    def scaled(by: float) -> Rows:
        return np.clip(np.rint(by * spread), 1, longest).astype(np.int64)

    low, high = 0.0, longest / spread.min()
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if scaled(middle).mean() < mean else (low, middle)
    return scaled(high)
