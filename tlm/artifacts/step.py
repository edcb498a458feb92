"""Stages and steps.

A *stage* is a kind of work (tokenise, pretrain, …), named in `STAGES` with its VERSION and the function that does it.
A *step* is one use of a stage in a study: stage + literal config + references to its inputs. Its key is its identity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

from pydantic import BaseModel, ConfigDict

from tlm.artifacts.fingerprint import SHORT, step_key

Label = str | int | float | bool | None


@dataclass(frozen=True)
class Stage:
    """One kind of work. Bump `version` when its meaning changes: every artifact below it is then made anew."""

    name: str
    version: str
    target: str
    """`module:function`, imported only when the stage runs, so that planning needs no torch."""
    trains: bool = False
    """Runs in torch: gets a child process of its own, which can be timed out and killed."""

    def function(self) -> Callable[..., dict[str, Any]]:
        module, _, name = self.target.partition(":")
        return getattr(import_module(module), name)


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("source", "1", "tlm.stages.data:source"),
        Stage("tokenizer", "1", "tlm.stages.data:tokenizer"),
        Stage("tokens", "1", "tlm.stages.data:tokens"),
        Stage("corpus", "1", "tlm.stages.data:corpus"),
        Stage("task", "1", "tlm.stages.data:task"),
        Stage("overlap", "1", "tlm.stages.tokens:overlap"),
        Stage("duplicates", "1", "tlm.stages.tokens:duplicates"),
        Stage("inject", "1", "tlm.stages.treatments:inject"),
        Stage("shuffle", "1", "tlm.stages.treatments:shuffle"),
        Stage("mix", "1", "tlm.stages.treatments:mix"),
        Stage("pretrain", "2", "tlm.stages.models:pretrain", trains=True),
        Stage("finetune", "2", "tlm.stages.models:finetune", trains=True),
        Stage("committee", "2", "tlm.stages.evaluation:committee"),
        Stage("latency", "1", "tlm.stages.latency:latency", trains=True),
        Stage("baseline", "1", "tlm.stages.evaluation:baseline"),
        Stage("report", "3", "tlm.stages.evaluation:report"),
    )
}


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

    `config` and `inputs` are identity. The rest is not: `slug` and `labels` (ws, arch, task, seed, …) describe it in folder
    names, tables and tags; `access` says how to reach what `config` identifies (the path behind a digest).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    config: dict[str, Any]
    inputs: dict[str, ArtifactRef] = {}
    slug: str
    labels: dict[str, Label] = {}
    access: dict[str, Any] = {}

    @cached_property
    def key(self) -> str:
        return step_key(self.stage, STAGES[self.stage].version, self.config, self.input_keys)

    @property
    def input_keys(self) -> Mapping[str, str]:
        return {name: ref.key for name, ref in self.inputs.items()}

    @cached_property
    def ref(self) -> ArtifactRef:
        return ArtifactRef(stage=self.stage, key=self.key, slug=self.slug)
