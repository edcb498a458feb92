"""Named studies. A study is a function that returns a StudyConfig; `@study` puts it into `STUDIES` under its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any, cast, get_args

from flows.studies.scales import DEFAULT_SCALE, SCALES, Scale
from tlm.errors import UserError
from tlm.study.config import StudyConfig
from tlm.study.sources import Origin

ORIGINS = get_args(Origin)


@dataclass(frozen=True)
class NamedStudy:
    """A function of a scale, or one that stands for a single study."""

    name: str
    make: Callable[..., StudyConfig]

    @property
    def scaled(self) -> bool:
        """Whether it exists at several scales."""
        return bool(signature(self.make).parameters)

    @property
    def description(self) -> str:
        return (self.make.__doc__ or "").strip().splitlines()[0]

    def __call__(self, scale: str | None = None, origin: str | None = None) -> StudyConfig:
        """The study at a scale (default: tiny), its sources on the "hub" or "local" (default: the scale's).

        Raises:
            UserError: for an unknown scale or origin, or if the study has none.
        """
        if not self.scaled:
            if scale or origin:
                raise UserError(f"{self.name} exists at one scale only.", "Leave --scale and --origin out.")
            return self.make()
        if scale is not None and scale not in SCALES:
            raise UserError(f"Unknown scale {scale!r}.", f"Choose from {', '.join(SCALES)}.")
        if origin not in (None, *ORIGINS):
            raise UserError(f"Unknown origin {origin!r}.", f"Choose from {', '.join(ORIGINS)}.")
        return self.make(SCALES[scale or DEFAULT_SCALE].at(cast("Origin | None", origin)))


STUDIES: dict[str, NamedStudy] = {}


def study(make: Callable[..., StudyConfig]) -> Callable[..., StudyConfig]:
    """Register a named study under its function's name."""
    name = make.__name__.replace("_", "-")
    STUDIES[name] = NamedStudy(name, make)
    return make


def assemble(scale: Scale, name: str, title: str, **fields: Any) -> StudyConfig:
    """A study at a scale: what all studies of that scale share, and `fields` of its own. Its analysis bears its name."""
    made = StudyConfig(name=name, title=title, analysis=name, scale=scale.name, **{**scale.common(), **fields})
    names = [arch.name for arch in made.architectures]
    rates = {"learning_rates": scale.pretrain_rates, "finetune_learning_rates": scale.finetune_rates}
    own = {field: {name: rate for name, rate in given.items() if name in names} for field, given in rates.items()}
    return made.model_copy(update=own)
