"""What every configuration model is made of: frozen, and an unknown field is an error."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=60)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Precision = Literal["auto", "float32", "bfloat16"]


class Frozen(BaseModel):
    """Immutable, an unknown field is an error, and so is a number that is none (NaN, infinity)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def slugify(text: str) -> str:
    """Lower-case letters, digits, dots and dashes: safe in a folder's name."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
