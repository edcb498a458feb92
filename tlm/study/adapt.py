"""A study changed as a whole: the reference code's habits, a dry run, a device's precision."""

from __future__ import annotations

from typing import Literal

from tlm.study.config import StudyConfig
from tlm.study.families import FAMILIES


def reference_compat(study: StudyConfig) -> StudyConfig:
    """The same study with the reference code's habits: decay per epoch, float32, conv over padding, frozen [CLS]."""
    return study.model_copy(
        update={
            "pretrain": study.pretrain.model_copy(update={"schedule": "epoch", "precision": "float32"}),
            "finetune": study.finetune.model_copy(update={"schedule": "epoch", "precision": "float32"}),
            "architectures": tuple(
                a.model_copy(update=dict(FAMILIES[a.kind].reference_habits)) for a in study.architectures
            ),
        }
    )


def with_limit(study: StudyConfig, steps: int) -> StudyConfig:
    """The same study with every training stopped after `steps` steps: every stage runs, no result means anything."""
    return study.model_copy(
        update={
            "pretrain": study.pretrain.model_copy(update={"max_steps": steps}),
            "finetune": study.finetune.model_copy(update={"max_steps": steps}),
        }
    )


def with_precision(study: StudyConfig, native: Literal["float32", "bfloat16"]) -> StudyConfig:
    """The same study with every precision "auto" replaced by what the device has: from here on it is identity."""
    return study.model_copy(
        update={
            part: config.model_copy(update={"precision": native})
            for part, config in (("pretrain", study.pretrain), ("finetune", study.finetune))
            if config.precision == "auto"
        }
    )
