"""What every configuration model is made of: frozen, and an unknown field is an error."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializationInfo, SerializerFunctionWrapHandler, model_serializer

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=60)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Precision = Literal["auto", "float32", "bfloat16"]


IDENTITY = {"identity": True}
"""Context of a dump from which a key is made."""


def added(default: Any, **options: Any) -> Any:
    """A field that came after keys had been made: as long as it has its default, no key knows of it.

    `options` are those of pydantic's Field. A field without it is part of every key, whatever its value.
    """
    return Field(default, json_schema_extra={"added": True}, **options)


class Frozen(BaseModel):
    """Immutable, an unknown field is an error, and so is a number that is none (NaN, infinity)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def identity(self, **options: Any) -> dict[str, Any]:
        """What of it, and of the models in it, is part of a key: JSON, without `added` fields at their default.

        `options` are those of `model_dump`.
        """
        return self.model_dump(mode="json", context=IDENTITY, **options)

    @model_serializer(mode="wrap")
    def _leave_out_defaults_of_added_fields(
        self, handler: SerializerFunctionWrapHandler, info: SerializationInfo
    ) -> dict[str, Any]:
        dumped: dict[str, Any] = handler(self)
        if info.context == IDENTITY:
            for name, field in type(self).model_fields.items():
                is_added = isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("added")
                if is_added and getattr(self, name) == field.get_default(call_default_factory=True):
                    dumped.pop(name, None)
        return dumped


def slugify(text: str) -> str:
    """Lower-case letters, digits, dots and dashes: safe in a folder's name."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
