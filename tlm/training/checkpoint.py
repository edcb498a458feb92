"""Mid-training checkpoints: everything that the next step depends on, so that a resumed run ends in the same bits.

One safetensors file each (no pickle). It appears whole or not at all, carries a digest of its content, and replaces the
one before it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tlm.machine.files import make_folder, plain_size, remove
from tlm.training.hooks import Hook, Run

COST_SHARE = 0.02
"""Checkpoints may take this share of the time; a model that takes long to write is written less often."""

FORMAT = 2
"""Of what a checkpoint holds. One of another format is not read: the training begins anew."""

log = logging.getLogger(__name__)


@dataclass
class State:
    """A run after `step` steps."""

    step: int
    tensors: dict[str, Tensor]
    """`model.…`, `optimizer.<parameter>.<name>` and `random.<device>`."""
    notes: dict[str, Any]
    """JSON: the curve so far, and what of the optimizer is no tensor."""


@dataclass
class Checkpoints(Hook):
    """The checkpoints of one run, in a folder of its own: written while it trains, and read when it starts again.

    Args:
        identity: of the run (its step key); a checkpoint of another is not read.
        every: seconds between two, at least (more if COST_SHARE asks for it); 0 writes one after each step.
    """

    folder: Path
    identity: str
    every: float = 60.0
    _due: float = field(init=False)

    def __post_init__(self) -> None:
        self._due = time.monotonic() + self.every

    def on_start(self, run: Run) -> None:
        """Go back to the last checkpoint, if there is one of this model."""
        state = self.latest()
        if state is None:
            return
        try:
            restore(state, run.model, run.optimizer, run.device)
        except ValueError as error:
            log.warning("the checkpoint after step %d is not used: %s", state.step, error)
            return
        run.curve.rows[:] = [(step, epoch, name, value) for step, epoch, name, value in state.notes["curve"]]
        run.step = state.step

    def after_step(self, run: Run) -> None:
        """Write a checkpoint if one is due, but none of weights that a loss shows to be lost, and none at the end."""
        if run.step < run.steps and self.due():
            run.loss()
            notes = {"curve": run.curve.rows, "optimizer": optimizer_values(run.optimizer)}
            self.save(run.step, lambda: capture(run.model, run.optimizer, run.device), notes)

    def due(self) -> bool:
        """Whether it is time for the next one."""
        return time.monotonic() >= self._due

    def save(self, step: int, capture: Callable[[], dict[str, Tensor]], notes: Mapping[str, Any]) -> None:
        """Write what `capture` returns in the place of the one before. If it cannot be written, training goes on."""
        started = time.monotonic()
        target = self.folder / f"{step:09d}.safetensors"
        arriving = target.with_suffix(f".arriving-{os.getpid()}")
        try:
            self._write(arriving, State(step, capture(), dict(notes)))
            os.replace(arriving, target)
            for old in self.folder.iterdir():
                if old != target:
                    remove(old)
        except (OSError, SafetensorError, MemoryError) as error:
            log.warning("no checkpoint after step %d: %s", step, error)
            with suppress(OSError):
                remove(arriving)
        took = time.monotonic() - started
        self._due = time.monotonic() + max(self.every, took / COST_SHARE if self.every else 0.0)

    def _write(self, path: Path, state: State) -> None:
        note = json.dumps({"format": FORMAT, "identity": self.identity, "step": state.step, **state.notes})
        metadata = {"tlm": note, "sha256": _digest(state.tensors, note)}
        make_folder(path.parent)
        save_file({name: tensor.contiguous() for name, tensor in state.tensors.items()}, path, metadata)
        with path.open("rb") as handle:
            os.fsync(handle.fileno())

    def latest(self) -> State | None:
        """The newest checkpoint that is whole and this run's own; damaged ones are removed."""
        for path in sorted(self.folder.glob("*.safetensors"), reverse=True):
            try:
                return self._read(path)
            except (SafetensorError, ValueError, KeyError, OSError) as error:
                log.warning("checkpoint %s is not usable (%s): it is removed", path.name, error)
                remove(path)
        return None

    def _read(self, path: Path) -> State:
        plain_size(path)  # a pipe would be waited for
        with safe_open(path, "pt") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
        if _digest(tensors, metadata["tlm"]) != metadata["sha256"]:
            raise ValueError("its content differs from its digest")
        notes = json.loads(metadata["tlm"])
        if notes.pop("format", 1) != FORMAT:
            raise ValueError("its format is that of another version of this code")
        if notes.pop("identity") != self.identity:
            raise ValueError("it belongs to another run")
        return State(notes.pop("step"), tensors, notes)


def capture(model: torch.nn.Module, optimizer: torch.optim.Optimizer, device: str) -> dict[str, Tensor]:
    """The tensors of a run; those on the CPU are not copied."""
    tensors = {f"model.{name}": tensor for name, tensor in _own_state(model).items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items() if torch.is_tensor(value)}
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.device(device).type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    return {name: tensor.detach().cpu() for name, tensor in tensors.items()}


def optimizer_values(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What of an optimizer's state is no tensor, as JSON: by parameter, and of each parameter group."""

    def plain(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if isinstance(value, (bool, int, float, str))}

    state = optimizer.state_dict()
    return {
        "state": {str(index): plain(values) for index, values in state["state"].items()},
        "param_groups": [plain(group) for group in state["param_groups"]],
    }


def restore(state: State, model: torch.nn.Module, optimizer: torch.optim.Optimizer, device: str) -> None:
    """Put back what `capture` and `optimizer_values` took.

    Raises ValueError, before anything is changed, if the model has other tensors.
    """
    tensors = state.tensors
    own = {f"model.{name}": tensor for name, tensor in _own_state(model).items()}
    kept = {name: tensor for name, tensor in tensors.items() if name.startswith("model.")}
    if {name: tensor.shape for name, tensor in own.items()} != {name: tensor.shape for name, tensor in kept.items()}:
        raise ValueError("it is of another model")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(kept[name])
    values = state.notes["optimizer"]
    moments: dict[int, dict[str, Any]] = {int(index): dict(plain) for index, plain in values["state"].items()}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            moments.setdefault(int(index), {})[name] = tensor.clone()  # not the file, which it would keep open
    now = optimizer.state_dict()["param_groups"]
    groups = [{**group, **plain} for group, plain in zip(now, values["param_groups"], strict=True)]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    torch.set_rng_state(tensors["random.cpu"])
    if torch.device(device).type == "cuda":
        torch.cuda.set_rng_state(tensors["random.cuda"], device)


def _own_state(model: torch.nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, tied ones once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _digest(tensors: Mapping[str, Tensor], note: str) -> str:
    digest = hashlib.sha256(note.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
