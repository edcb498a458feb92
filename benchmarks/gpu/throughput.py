"""How fast a step is: stock transformers, tlm's ordinary loop, and captured steps, on the same batches of real text.

Shapes: T steps.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.cases import Case, shape_of
from benchmarks.gpu.session import Session, free, synchronize
from benchmarks.ours import Ours
from benchmarks.setting import Setting
from benchmarks.stock import Stock
from benchmarks.work import useful_flops
from benchmarks.workload import Workload
from tlm.artifacts.step import Step
from tlm.data.ragged import Ragged, Rows
from tlm.data.tokenizer import Vocabulary
from tlm.study.architecture import Architecture, variant
from tlm.study.config import PretrainConfig
from tlm.training.captured import Engine, Stepper
from tlm.training.prepacked import Epoch, Run
from tlm.training.replay import capture_run, language_stepper, plan_run

STEPS = 300
"""Batches that are measured; a contender that takes long does fewer of them, in the same order."""
MOST_SECONDS = 3.0
"""Of one contender, warm-up and capture not counted."""
LEAST_SECONDS = 8.0
"""Without so much left no further contender begins."""
BLOCK = 20
PLAIN = Engine("varlen", captured=True)
"""torch's own kernels: what others are compared with on a GPU."""
COMPILED = Engine("varlen", captured=True, compiled=True)
FASTEST = Engine("varlen", captured=True, fused=True, overlapped=True)
"""What should be."""


@dataclass(frozen=True)
class Ground:
    """The batches that everyone is measured on: the first of a pre-training, one epoch of which is prepared."""

    run: Run
    epoch: Epoch
    workload: Workload
    batches: list[Rows]

    @staticmethod
    def of(session: Session, step: Step, steps: int) -> Ground:
        config = PretrainConfig.model_validate(step.config["pretrain"])
        corpus, vocabulary = session.sequences(step, "corpus"), session.vocabulary(step)
        size = config.batch_size
        steps = min(steps, len(corpus) // size)
        run = plan_run(
            corpus,
            vocabulary,
            config.model_copy(update={"epochs": None, "steps": steps}),
            max_length=int(step.config["max_length"]),
            seed=int(step.config["seed"]),
            steps=steps,
            multiple=multiple_for(session.device),
        )
        rows = np.concatenate([run.order.batch(number)[1] for number in range(steps)])
        batches = [np.arange(start, start + size) for start in range(0, len(rows), size)]
        workload = _workload(session, corpus.take(rows), vocabulary)
        return Ground(run, next(iter(session.preparing.start(run))), workload, batches)


def multiple_for(device: str) -> int:
    """Of which the rows of a batch are one; a toy's batches on a CPU are smaller than a tile of a GPU."""
    return 128 if device == "cuda" else 32


def _workload(session: Session, tokens: Ragged, vocabulary: Vocabulary) -> Workload:
    made = Workload(session.home / "workload", tokens, np.zeros(len(tokens), np.int64), 0, vocabulary.tokens)
    made.save()
    return made


def engines(device: str) -> list[Engine]:
    """In the order in which they are measured: the promising first, then what tells how much each part of them buys."""
    if device == "cpu":
        return [Engine()]
    return [
        PLAIN,
        replace(FASTEST, overlapped=False),
        FASTEST,
        COMPILED,
        Engine("rectangle", captured=True),
        Engine("varlen"),
        Engine("rectangle", captured=True, compiled=True),
    ]


@dataclass(frozen=True)
class Contender:
    """What trains a variant: `name` as the table has it, and what measures it."""

    case: Case
    name: str
    measure: Callable[[], dict[str, Any]]


def throughput(session: Session, variants: tuple[str, ...]) -> None:
    """Measure contenders in the order of their worth, as long as there is time."""
    (step, *_) = session.encoders()
    ground = Ground.of(session, step, STEPS)
    own = Architecture.model_validate({"name": str(step.labels["arch"]), **step.config["architecture"]})
    chosen = engines(session.device) if session.engine is None else [PLAIN, session.engine]
    first, *others = [name for name in variants if session.device == "cuda" or name == variants[0]]
    main = _contenders(session, ground, own if first == "bert6" else _resized(own, first), first, chosen)
    rest = [each for name in others for each in _contenders(session, ground, _resized(own, name), name, [FASTEST])]
    stock, ordinary, *captured = main
    for contender in (stock, *captured[:4], *rest[:1], *rest[2:3], ordinary, *captured[4:], *rest[3:]):
        _measure(session, ground, contender)


def _contenders(
    session: Session, ground: Ground, architecture: Architecture, name: str, chosen: list[Engine]
) -> list[Contender]:
    """Stock, tlm's ordinary loop, and engines."""
    config, device = ground.run.config, session.device
    case = Case(
        f"pretrain-{name}", "pretrain", _shape(architecture), "wikipedia", config.batch_size, ground.run.max_length
    )
    setting = Setting(case, ground.workload, device, device == "cuda")
    return [
        Contender(case, "stock", lambda: _loop(session, ground, Stock(setting).train)),
        Contender(case, "ours, ordinary loop", lambda: _ordinary(session, ground, setting)),
        *(Contender(case, str(engine), partial(_captured, session, ground, architecture, engine)) for engine in chosen),
    ]


def _measure(session: Session, ground: Ground, contender: Contender) -> None:
    """Keep what a contender achieves, or why it does not run: what fails must not end the others."""
    case, name = contender.case, f"{contender.case.name} | {contender.name}"
    if session.left < LEAST_SECONDS:
        session.say(f"{name}: no time is left")
        return
    start = time.monotonic()
    try:
        found = contender.measure()
        count = found["steps"]
        flops = useful_flops(case, ground.workload, ground.batches[:count])
        tokens = ground.workload.real_tokens(ground.batches[:count], case.max_length)
        seconds = found.pop("seconds")
        found |= {
            "ms": 1e3 * seconds / count,
            "tokens_per_second": tokens / seconds,
            "useful_flops_per_second": flops / seconds,
        }
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {error}"[:600]}
        traceback.print_exc(limit=4)
    found["total_seconds"] = time.monotonic() - start
    free(session.device)
    session.keep("throughput", {name: found})
    session.say(f"{name}: " + ", ".join(f"{k} {_short(v)}" for k, v in found.items()))


def _loop(session: Session, ground: Ground, train: Callable[[list[Rows]], None]) -> dict[str, Any]:
    """Batches by the dozen, until there are none or the time is up. The first are a warm-up."""
    train(ground.batches[:5])
    synchronize(session.device)
    start, done = time.perf_counter(), 0
    while done < len(ground.batches) and time.perf_counter() - start < MOST_SECONDS:
        train(ground.batches[done : done + BLOCK])
        synchronize(session.device)
        done = min(done + BLOCK, len(ground.batches))
    return {"steps": done, "seconds": time.perf_counter() - start}


def _ordinary(session: Session, ground: Ground, setting: Setting) -> dict[str, Any]:
    ours = Ours(setting)
    return _loop(session, ground, lambda batches: ours.prepare(batches, 1)())


def _captured(session: Session, ground: Ground, architecture: Architecture, engine: Engine) -> dict[str, Any]:
    """Capture, train on every batch, and say what the mean loss of the last third was: engines must agree on it."""
    run, device = ground.run, session.device
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    config = run.config
    assert isinstance(config, PretrainConfig)
    stepper = language_stepper(
        run.vocabulary,
        architecture,
        config,
        engine,
        max_length=run.max_length,
        seed=run.seed,
        steps=run.steps,
        device=device,
    )
    capture_run(stepper, run)
    stepper.model.train()
    torch.manual_seed(run.seed)
    synchronize(device)
    captured = time.perf_counter() - start
    count, seconds = launched(stepper, run, ground.epoch, MOST_SECONDS)
    losses = stepper.losses_T[:count]
    return {
        "steps": count,
        "seconds": seconds,
        "capture_seconds": captured,
        "last_loss": float(losses[-max(1, count // 3) :].mean()),
        "memory_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else 0,
    }


def launched(stepper: Stepper, run: Run, epoch: Epoch, most_seconds: float) -> tuple[int, float]:
    """Steps that were done, and the seconds that they took, with the vectors on the device already."""
    vectors = torch.from_numpy(epoch.vectors).to(stepper.device)
    device = stepper.device.type
    synchronize(device)
    start, done, place = time.perf_counter(), 0, 0
    while done < len(epoch.sizes_T) and time.perf_counter() - start < most_seconds:
        for index in epoch.sizes_T[done : done + BLOCK]:
            size = run.sizes[index]
            stepper.launch(size, vectors[place : place + size.length])
            place += size.length
        done = min(done + BLOCK, len(epoch.sizes_T))
        if done % (5 * BLOCK) == 0 or device == "cpu":
            synchronize(device)
    synchronize(device)
    return done, time.perf_counter() - start


def _resized(own: Architecture, name: str) -> Architecture:
    """A variant with everything else as the bundle's model has it."""

    return variant(
        name,
        head_size=own.hidden_size // own.num_attention_heads,
        hidden_dropout_prob=own.hidden_dropout_prob,
        attention_probs_dropout_prob=own.attention_probs_dropout_prob,
    )


def _shape(architecture: Architecture) -> Any:
    fields = shape_of("bert6")
    return replace(
        fields,
        num_hidden_layers=architecture.num_hidden_layers,
        num_attention_heads=architecture.num_attention_heads,
        hidden_size=architecture.hidden_size,
        intermediate_size=architecture.intermediate_size,
    )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
