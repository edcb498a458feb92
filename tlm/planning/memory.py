"""Whether the machine has the memory that a study's training takes at the very least, before any work."""

from __future__ import annotations

from collections.abc import Iterable

from tlm.artifacts.step import Step
from tlm.errors import UserError
from tlm.machine.memory import GIB, WAYS_TO_NEED_LESS, free_memory
from tlm.machine.runtime import Runtime, trains_here
from tlm.modeling.families.base import family_of
from tlm.stages import STAGES
from tlm.study.config import StudyConfig

PROCESS = 300 << 20
"""Bytes of a training process before it has a model: less than it was ever seen to take (400 MiB with torch 2.13)."""
BYTES_PER_PARAMETER = 8
"""Weights and gradients in float32. An optimizer keeps more, and a batch most: this much is sure not to be enough."""


def least_memory(study: StudyConfig, todo: Iterable[Step], runtime: Runtime) -> tuple[int, str] | None:
    """Bytes that a training process takes at the very least, and of which model; None if no step trains on this CPU."""
    elsewhere = runtime.trains_on_gpu or not trains_here(runtime)
    if elsewhere or not any(STAGES[step.stage].trains for step in todo):
        return None
    vocab_size, _ = study.tokenizer.vocabulary_size(runtime.data_root)
    parameters, name = max(
        (
            family_of(arch).parameters(arch, vocab_size=vocab_size, max_position_embeddings=study.max_length),
            arch.name,
        )
        for arch in study.architectures
    )
    return PROCESS + BYTES_PER_PARAMETER * parameters, f"{name} ({parameters:,} parameters)"


def check_memory(study: StudyConfig, todo: Iterable[Step], runtime: Runtime) -> None:
    """Raise UserError if training on this CPU, if any of the steps does, needs more than TLM_MEMORY_GIB or what is free."""
    least = least_memory(study, todo, runtime)
    room, what = room_for_training(runtime)
    if least is not None and room is not None and room < least[0]:
        raise UserError(
            f"Training {least[1]} takes more than {least[0] / GIB:.2f} GiB of memory, and {what}.",
            f"Use {WAYS_TO_NEED_LESS}.",
        )


def room_for_training(runtime: Runtime) -> tuple[int | None, str]:
    """Bytes that a training process may take, None if that is not known, and a clause that says so."""
    if runtime.memory_gib is not None:
        return int(runtime.memory_gib * GIB), f"TLM_MEMORY_GIB={runtime.memory_gib:g} allows less"
    try:
        free = free_memory()
    except OSError:
        return None, ""
    return free, f"{free / GIB:.2f} GiB are free"
