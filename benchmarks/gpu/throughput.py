"""How fast a step is: stock transformers, tlm's ordinary loop, and captured steps, on the same batches of real text.

Shapes: T steps.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from benchmarks.cases import Case, shape_of
from benchmarks.contenders import Setting
from benchmarks.gpu.session import Session, free, synchronize
from benchmarks.ours import Ours
from benchmarks.stock import Stock
from benchmarks.work import useful_flops
from benchmarks.workload import Workload
from tlm.config import Architecture, PretrainConfig
from tlm.modeling.packed import Attention
from tlm.ragged import Ragged, Rows
from tlm.steps import Step
from tlm.tokenizer import Vocabulary
from tlm.training.captured import Engine, Stepper
from tlm.training.prepacked import Epoch, Run
from tlm.training.replay import capture_run, language_stepper, plan_run

STEPS = 300
"""Batches that are measured; a contender that takes long does fewer of them, in the same order."""
MOST_SECONDS = 3.0
"""Of one contender, warm-up and capture not counted."""
BLOCK = 20


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
    """From the simplest to the one that should be fastest."""
    if device == "cpu":
        return [Engine()]
    varlen: Attention = "varlen"
    return [
        Engine("rectangle"),
        Engine(varlen),
        Engine("rectangle", captured=True),
        Engine(varlen, captured=True),
        Engine(varlen, captured=True, overlapped=True),
        Engine(varlen, compiled=True, captured=True),
        Engine(varlen, compiled=True, captured=True, overlapped=True),
    ]


def throughput(session: Session, variants: tuple[str, ...] = ("bert6", "bert1", "bert1a")) -> None:
    """Measure every variant with every contender, in the order of their worth, as long as there is time."""
    (step, *_) = session.steps_of("pretrain")
    ground = Ground.of(session, step, STEPS)
    own = Architecture.model_validate({"name": str(step.labels["arch"]), **step.config["architecture"]})
    for name in variants if session.device == "cuda" else variants[:1]:
        architecture = own if name == "bert6" else _resized(own, name)
        case = Case(f"pretrain-{name}", "pretrain", _shape(architecture), "wikipedia", own_batch(ground), _length(step))
        setting = Setting(case, ground.workload, session.device, session.device == "cuda")
        contenders: list[tuple[str, Callable[[], dict[str, Any]]]] = [
            ("stock", lambda setting=setting: _loop(session, ground, Stock(setting).train)),  # type: ignore[misc]
        ]
        chosen = engines(session.device)
        for engine in chosen if name == "bert6" else chosen[-1:]:
            contenders.append(
                (str(engine), lambda e=engine, a=architecture: _captured(session, ground, a, e))  # type: ignore[misc]
            )
        if name == "bert6":
            ours = ("ours, ordinary loop", lambda setting=setting: _ordinary(session, ground, setting))
            contenders.insert(1, ours)  # type: ignore[arg-type]
        for contender, measure in contenders:
            _measure(session, ground, case, contender, measure)


def _measure(
    session: Session, ground: Ground, case: Case, contender: str, measure: Callable[[], dict[str, Any]]
) -> None:
    """Keep what a contender achieves, or why it does not run: what fails must not end the others."""
    if session.left < 10:
        session.say(f"{case.name} {contender}: no time left")
        return
    start = time.monotonic()
    try:
        found = measure()
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
    session.keep("throughput", {f"{case.name} | {contender}": found})
    session.say(f"{case.name} | {contender}: " + ", ".join(f"{k} {_short(v)}" for k, v in found.items()))


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
    from tlm.modeling.variants import variant

    drop = {"hidden_dropout_prob": own.hidden_dropout_prob, "attention_probs_dropout_prob": own.attention_probs_dropout_prob}
    return variant(name, head_size=own.hidden_size // own.num_attention_heads, **drop)


def _shape(architecture: Architecture) -> Any:
    fields = shape_of("bert6")
    return replace(
        fields,
        num_hidden_layers=architecture.num_hidden_layers,
        num_attention_heads=architecture.num_attention_heads,
        hidden_size=architecture.hidden_size,
        intermediate_size=architecture.intermediate_size,
    )


def own_batch(ground: Ground) -> int:
    return ground.run.config.batch_size


def _length(step: Step) -> int:
    return int(step.config["max_length"])


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
