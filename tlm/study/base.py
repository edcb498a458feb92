"""What every configuration model is made of: frozen, and an unknown field is an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticUndefined

from tlm.machine.registry import Registry

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=60)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
TOO_LARGE = 2**63
"""No column of 64-bit integers holds it."""
Seed = Annotated[int, Field(ge=0, lt=TOO_LARGE, strict=True)]
"""What every random generator takes. A whole number as it is: neither text nor `true`."""
Precision = Literal["auto", "float32", "bfloat16"]


IDENTITY = {"identity": True}
"""Context of a dump from which a key is made."""


def added(default: Any = PydanticUndefined, **options: Any) -> Any:
    """A field that came after keys had been made: as long as it has its default, no key knows of it.

    `options` are those of pydantic's Field, `default_factory` among them. A field that is not added is part of every key,
    whatever its value.
    """
    return Field(default, json_schema_extra={"added": True}, **options)


class Frozen(BaseModel):
    """Immutable, an unknown field is an error, and so is a number that is none (NaN, infinity)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    brief: ClassVar[bool] = False
    """Whether every dump leaves out `added` fields at their default, not only what a key is made from."""

    @field_validator("*")
    @classmethod
    def _whole_numbers_fit_a_column(cls, value: Any) -> Any:
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int) and abs(number) >= TOO_LARGE:
                raise ValueError("a whole number must be less than 2**63")
        return value

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
        if info.context == IDENTITY or self.brief:
            for name, field in type(self).model_fields.items():
                is_added = isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("added")
                if is_added and _is_default(getattr(self, name), field.get_default(call_default_factory=True)):
                    dumped.pop(name, None)
        return dumped


def _is_default(value: Any, default: Any) -> bool:
    """Whether a key cannot tell a field's value from its default: it may be of a subclass all of whose fields are added."""
    if isinstance(value, Frozen) and isinstance(default, Frozen) and isinstance(value, type(default)):
        return value.identity() == default.identity()
    return bool(value == default)


class Registered(Frozen):
    """A configuration that is one of several kinds, to which an extension may add: an open discriminated union.

    A direct subclass says what they are called and where the package's own are; each kind is a subclass of that, with a
    literal `kind` of its own, and is known from then on:

        class Optimizer(Registered, noun="optimizer", own={"adamw": "tlm.training.optimizers.adamw"}): ...

        class AdamW(Optimizer):
            kind: Literal["adamw"] = "adamw"

    A field is `SerializeAsAny[Optimizer]`. It takes an instance, a mapping with `kind`, or the kind alone for one whose
    other fields have defaults, and refuses an unknown kind with a list of those that exist.
    """

    registry: ClassVar[Registry[type[Any]]]
    kind: str

    def __init_subclass__(cls, noun: str = "", own: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)  # what is said of the class is read below, once its fields are known

    @classmethod
    def __pydantic_init_subclass__(cls, noun: str = "", own: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        kind = cls.model_fields["kind"].default
        if noun:
            cls.registry = Registry(noun, own or {})
        elif isinstance(kind, str):
            cls.registry.register(kind, cls)

    @model_validator(mode="wrap")
    @classmethod
    def _choose_by_kind(cls, data: Any, handler: ModelWrapValidatorHandler[Any]) -> Any:
        data = {"kind": data} if isinstance(data, str) else data
        if "registry" not in vars(cls) or not isinstance(data, dict):
            return handler(data)
        kind = data.get("kind")
        if not isinstance(kind, str):
            raise ValueError(f"kind: choose from {cls.registry.names()}")
        return cls.registry[kind].model_validate(data)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        if "registry" not in vars(cls):
            return handler(schema)
        kinds = [handler(cls.registry[name].__pydantic_core_schema__) for name in cls.registry.names()]
        return {"title": cls.__name__, "type": "object"} | ({"oneOf": kinds} if kinds else {})


def slugify(text: str) -> str:
    """Lower-case letters, digits, dots and dashes: safe in a folder's name."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
