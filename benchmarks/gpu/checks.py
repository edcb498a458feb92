"""Whether captured steps compute what they should on this device: against float32, and from replay to replay."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.gpu.session import Session, free, synchronize
from benchmarks.gpu.throughput import Ground, engines
from tlm.study.architecture import Architecture
from tlm.study.config import PretrainConfig
from tlm.training.captured import Engine, Stepper, inputs_of
from tlm.training.prepacked import STEP, Epoch, Run, Scalars
from tlm.training.replay import capture_run, language_stepper

TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}
"""Of ‖gradient − reference‖ / ‖reference‖."""
BATCHES = 8


def checks(session: Session) -> dict[str, Any]:
    """For every kind of attention the relative error of a batch's gradients; for graphs, that dropout is drawn anew."""
    return checked(session, [e for e in engines(session.device) if not e.compiled and not e.overlapped])


def checked(session: Session, chosen: Sequence[Engine]) -> dict[str, Any]:
    """`checks` of some engines: `sound` says whether one is."""
    if not chosen:
        return {}
    (step, *_) = session.encoders()
    ground = Ground.of(session, step, BATCHES)
    fields = {**step.config["architecture"], "num_hidden_layers": 2}
    still = {**fields, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    architecture = Architecture.model_validate({"name": "check", **still})
    reference = gradients(_stepper(ground.run, architecture, Engine(), session.device, "float32"), ground)
    found: dict[str, Any] = {}
    for engine in chosen:
        start = time.monotonic()
        try:
            error = _error(ground, architecture, engine, session.device, reference)
            own = {"gradient_error": error, "sound": error < TOLERANCE["bfloat16"]}
            if engine.captured:
                moving = Architecture.model_validate({"name": "check", **fields})
                own["dropout_differs"] = _differs(ground, moving, engine, session.device)
                own["sound"] = own["sound"] and own["dropout_differs"]
            found[str(engine)] = {**own, "seconds": time.monotonic() - start}
        except Exception as error:
            found[str(engine)] = {"sound": False, "error": f"{type(error).__name__}: {error}"[:600]}
        session.say(f"{engine}: {found[str(engine)]}")
        free(session.device)
    return found


def _error(ground: Ground, architecture: Architecture, engine: Engine, device: str, reference: torch.Tensor) -> float:
    precision = "bfloat16" if device == "cuda" else "float32"
    stepper = _stepper(ground.run, architecture, engine, device, precision)
    if engine.captured:
        capture_run(stepper, ground.run)
    return float((gradients(stepper, ground) - reference).norm() / reference.norm())


def _stepper(run: Run, architecture: Architecture, engine: Engine, device: str, precision: str) -> Stepper:
    config = PretrainConfig.model_validate({**run.config.model_dump(), "precision": precision})
    return language_stepper(
        run.vocabulary,
        architecture,
        config,
        engine,
        max_length=run.max_length,
        seed=run.seed,
        steps=run.steps,
        device=device,
    )


def gradients(stepper: Stepper, ground: Ground) -> torch.Tensor:
    """Of all parameters, float32, for the first batch; its step changes no weight."""
    size, vector = still(ground.run, ground.epoch)
    stepper.model.train()
    on_device = vector.to(stepper.device)
    if size in stepper.graphs:
        stepper.launch(size, on_device)
    else:
        stepper.step(inputs_of(on_device, size))
    synchronize(stepper.device.type)
    return torch.cat([stepper.flat.gradients_Q.float(), stepper.flat.gradients_rest])


def still(run: Run, epoch: Epoch) -> tuple[Any, torch.Tensor]:
    """The first batch, with a learning rate of 0."""
    size = run.sizes[epoch.sizes_T[0]]
    vector = epoch.vectors[: size.length].copy()
    Scalars().write(vector)
    return size, torch.from_numpy(vector)


def _differs(ground: Ground, architecture: Architecture, engine: Engine, device: str) -> bool:
    """Whether two steps on one batch, with the same weights, have different losses."""
    stepper = _stepper(ground.run, architecture, engine, device, "bfloat16")
    capture_run(stepper, ground.run)
    stepper.model.train()
    size, vector = still(ground.run, ground.epoch)
    for step in range(2):
        vector[STEP] = step
        stepper.launch(size, vector.to(stepper.device))
    first, second = stepper.losses_T[:2].tolist()
    return first != second
