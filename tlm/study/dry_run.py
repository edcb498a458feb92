"""A dry run ends its trainings early (`max_steps`): every stage runs, and no number that comes of it means anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

DRY_RUN = "A dry run: trainings were ended early, and no figure here means anything."
DRY_MODEL = "A dry run made this model: its training was ended early, and what it says means nothing"


def is_dry_run(config: Any) -> bool:
    """Whether a configuration, be it a study's or a step's, has a training end early: `max_steps`, wherever it stands.

    What a step was made from may have been ended early too: `tlm.artifacts.dry_runs`.
    """
    if isinstance(config, BaseModel):
        return is_dry_run(config.model_dump())
    if isinstance(config, Mapping):
        return bool(config.get("max_steps")) or any(map(is_dry_run, config.values()))
    return isinstance(config, list | tuple) and any(map(is_dry_run, config))
