"""The evaluation `early_exit`: a study's benchmarks of options once more, by models whose tokens leave at their exits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tlm.study.config import Evaluation


class EarlyExit(Evaluation):
    """Every benchmark that the study asks by likelihood, once more by each of its models that has exits."""

    kind: Literal["early_exit"] = "early_exit"
    threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description="a token leaves at the first exit at which its most likely successor is as likely; at 1 none does",
    )
    layers: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="instead of a threshold: the highest one with which held-out text uses at most this share of layers",
    )

    @property
    def title(self) -> str:
        """What tables call it, behind the name of an architecture."""
        return f"exits {100 * self.layers:g} %" if self.layers is not None else f"exits at {self.threshold:g}"

    @model_validator(mode="after")
    def _one_of_two(self) -> EarlyExit:
        if (self.threshold is None) == (self.layers is None):
            raise ValueError("early_exit: give either threshold, or layers, 0.5 for example")
        return self
