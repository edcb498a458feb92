"""Whether the disk has room for the weights that a study will keep, before any work."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from tlm.artifacts.step import Step
from tlm.errors import UserError
from tlm.machine.memory import GIB
from tlm.machine.runtime import Runtime
from tlm.modeling.families.base import family_of
from tlm.stages import STAGES
from tlm.study.architecture import Architecture
from tlm.study.config import StudyConfig

BYTES_PER_PARAMETER = 4
"""Weights are kept in float32."""


def weights_to_keep(study: StudyConfig, todo: Iterable[Step], runtime: Runtime) -> tuple[int, int]:
    """How many models of these steps are kept, and the bytes of their weights: nearly all that a study leaves on a disk.

    What text takes is not counted: a few hundred bytes a paragraph.
    """
    vocab_size, _ = study.tokenizer.vocabulary_size(runtime.data_root)
    models = parameters = 0
    for step in todo:
        if STAGES[step.stage].trains and "architecture" in step.config:  # latency trains nothing that it keeps
            arch = Architecture.model_validate({"name": step.labels["arch"], **step.config["architecture"]})
            models += 1
            parameters += family_of(arch).parameters(
                arch, vocab_size=vocab_size, max_position_embeddings=study.max_length
            )
    return models, BYTES_PER_PARAMETER * parameters


def free_disk(runtime: Runtime) -> int | None:
    """Bytes that are free where artifacts are kept; None in an object store, and where that cannot be told."""
    if not runtime.is_local:
        return None
    place = Path(runtime.home).absolute()
    try:
        return shutil.disk_usage(next(folder for folder in (place, *place.parents) if folder.exists())).free
    except OSError:
        return None


def check_disk(study: StudyConfig, todo: Iterable[Step], runtime: Runtime) -> None:
    """Raise UserError if the weights of the models that are still to be trained do not fit on the disk."""
    models, needed = weights_to_keep(study, todo, runtime)
    free = free_disk(runtime)
    if free is not None and free < needed:
        raise UserError(
            f"The weights of {models:,} models take {needed / GIB:.2f} GiB, and {free / GIB:.2f} GiB are free under "
            f"TLM_HOME={runtime.home}.",
            "Free some (tlm gc), or set TLM_HOME to a folder on another disk.",
        )
