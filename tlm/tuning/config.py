"""A tuning study: which study, over which of its fields, by which objective. A file that `tlm tune` runs."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, field_validator

from tlm.study.base import Frozen, Name, Seed
from tlm.tuning.objective import Objective
from tlm.tuning.space import Dimension, as_text, parse

DEFAULT_TRIALS = 20


class TuningConfig(Frozen):
    """A search. Its trials are runs of `study` with other values of the fields in `over`."""

    name: Name
    study: str | dict[str, Any] = Field(description="a named study, a file beside this one, or all fields of a study")
    scale: str | None = Field(None, description="of a named study that has several, as --scale")
    origin: str | None = Field(None, description="where its sources are read, as --origin")
    set: dict[str, Any] = Field({}, description="fields that all trials share: field → value")
    over: dict[str, str] = Field(
        min_length=1, description="field → its space (`tlm.tuning.space`), or a list to choose from"
    )
    objective: Objective = Objective()
    trials: PositiveInt = Field(DEFAULT_TRIALS, description="in all; more may be asked for later")
    sampler: Literal["tpe", "random"] = "tpe"
    random_trials: PositiveInt = Field(8, description="drawn at random before the sampler learns from what it has seen")
    seed: Seed = 0
    at_once: Annotated[int, Field(ge=1, le=256)] = Field(
        4, description="trials that are drawn together, knowing nothing of each other, and run side by side"
    )
    prune: bool = Field(True, description="end a trial whose mean after a seed is below the median of the earlier ones")

    @field_validator("over", mode="before")
    @classmethod
    def _lists_are_choices(cls, over: Any) -> Any:
        if not isinstance(over, dict):
            return over
        return {
            field: "choice:" + as_text(space)[1:-1] if isinstance(space, list) else space
            for field, space in over.items()
        }

    @cached_property
    def space(self) -> dict[str, Dimension]:
        """Raises UserError for a text that is no space."""
        return {field: parse(field, text) for field, text in self.over.items()}

    @property
    def search_identity(self) -> dict[str, Any]:
        """What decides which trials are drawn, and how they end, the study aside."""
        return self.identity(include={"over", "sampler", "random_trials", "seed", "at_once", "prune"})
