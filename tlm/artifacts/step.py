"""A step: one use of a stage in a study, as plain data. Its key is its identity.

A *stage* is a kind of work (tokenise, pretrain, …), a class in `tlm.stages`. A *step* is stage + VERSION + literal config +
references to its inputs.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict

from tlm.artifacts.fingerprint import SHORT, step_key

Label = str | int | float | bool | None


class ArtifactRef(BaseModel):
    """The small thing that tasks pass to each other: which artifact, never what is in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    key: str
    slug: str

    def __str__(self) -> str:
        return f"{self.stage}/{self.slug}-{self.key[:SHORT]}"


class Step(BaseModel):
    """One unit of work of a study.

    Stage, version, config and inputs are identity. The rest is not: `slug` and `labels` (ws, arch, task, seed, …) describe
    it in folder names, tables and tags; `access` says how to reach what `config` identifies (the path behind a digest).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    version: str
    config: dict[str, Any]
    inputs: dict[str, ArtifactRef] = {}
    slug: str
    labels: dict[str, Label] = {}
    access: dict[str, Any] = {}

    @cached_property
    def key(self) -> str:
        return step_key(self.stage, self.version, self.config, self.input_keys)

    @property
    def input_keys(self) -> dict[str, str]:
        return {name: ref.key for name, ref in self.inputs.items()}

    @cached_property
    def ref(self) -> ArtifactRef:
        return ArtifactRef(stage=self.stage, key=self.key, slug=self.slug)
