"""A step: one use of a stage in a study, as plain data. Its key is its identity.

A *stage* is a kind of work (tokenise, pretrain, …), a class in `tlm.stages`. A *step* is stage + VERSION + literal config +
references to its inputs.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from tlm.artifacts.fingerprint import SHORT, step_key

Label = str | int | float | bool | None
# Folders are named by these, and records and bundles come from other machines: none may lead out of the store.
StageName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=60)]
LONGEST_SLUG = 240
"""Characters: with its key, a slug is a folder's name, of which file systems take 255 bytes."""
Slug = Annotated[str, Field(pattern=r"^[a-z0-9.-]*$", max_length=LONGEST_SLUG)]
Key = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ArtifactRef(BaseModel):
    """The small thing that tasks pass to each other: which artifact, never what is in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: StageName
    key: Key
    slug: Slug

    def __str__(self) -> str:
        return f"{self.stage}/{self.slug}-{self.key[:SHORT]}"


class Step(BaseModel):
    """One unit of work of a study.

    Stage, version, config and inputs are identity. The rest is not: `slug` and `labels` (ws, arch, task, seed, …) describe
    it in folder names, tables and tags; `access` says how to reach what `config` identifies (the path behind a digest).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: StageName
    version: str
    config: dict[str, Any]
    inputs: dict[str, ArtifactRef] = {}
    slug: Slug
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
