"""Where the time of a captured step goes, kernel by kernel."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.gpu.pretraining import best_engine
from benchmarks.gpu.session import Session, synchronize
from benchmarks.gpu.throughput import LEAST_SECONDS, Ground, launched
from tlm.study.architecture import Architecture
from tlm.study.config import PretrainConfig
from tlm.training.replay import capture_run, language_stepper

STEPS = 20
MOST = 40
"""Kernels listed."""


def profile(session: Session) -> dict[str, Any]:
    """Microseconds a step of the kernels that take longest, under the fastest engine, and of all kernels together."""
    if session.left < LEAST_SECONDS:
        session.say("no time is left")
        return {}
    (step, *_) = session.encoders()
    ground = Ground.of(session, step, STEPS)
    config = ground.run.config
    assert isinstance(config, PretrainConfig)
    engine = best_engine(session)
    stepper = language_stepper(
        ground.run.vocabulary,
        Architecture.model_validate({"name": "bert6", **step.config["architecture"]}),
        config,
        engine,
        max_length=ground.run.max_length,
        seed=0,
        steps=ground.run.steps,
        device=session.device,
    )
    capture_run(stepper, ground.run)
    stepper.model.train()
    launched(stepper, ground.run, ground.epoch, 5.0)
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if session.device == "cuda":
        kinds = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds) as profiler:
        count, seconds = launched(stepper, ground.run, ground.epoch, 5.0)
        synchronize(session.device)
    events = profiler.key_averages()
    field = "self_device_time_total" if session.device == "cuda" else "self_cpu_time_total"
    rows = sorted(((getattr(e, field) / count, e.count / count, e.key[:110]) for e in events), reverse=True)
    for microseconds, calls, name in rows[:MOST]:
        session.say(f"{microseconds:9.1f} µs {calls:6.1f} × {name}")
    return {
        "engine": str(engine),
        "ms": 1e3 * seconds / count,
        "kernels_ms": sum(row[0] for row in rows) / 1e3,
        "kernels": [{"us": us, "calls": calls, "name": name} for us, calls, name in rows[:MOST]],
    }
