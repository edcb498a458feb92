"""The families of models by `Architecture.kind`, and what a study needs to know of one.

The whole of a family is a `tlm.modeling.families.base.ModelFamily`. Studies stand on a lower floor, so that this module
names the families' modules instead of importing them; none of them imports torch before a model is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from tlm.machine.registry import Registry
from tlm.study.base import Frozen


class Options(Frozen):
    """Fields of an architecture that only models of its family have. A family without any uses this class itself."""

    brief = True  # another family has others: an architecture that is given another kind must not carry these along

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "object", "title": "Options"}  # which fields it may have depends on `kind`


class Family(Protocol):
    """What a study asks of a family of models."""

    @property
    def kind(self) -> str:
        """Its name, `Architecture.kind`."""
        ...

    @property
    def units(self) -> Literal["subword", "byte"]:
        """What its models read: `TokenizerConfig.units`."""
        ...

    @property
    def causal(self) -> bool:
        """Whether a position sees only those before it."""
        ...

    @property
    def predicts_next(self) -> bool:
        """Whether its language models are a `tlm.modeling.decoder_heads.NextToken`, which objectives may look into: each
        row's state predicts the token that follows, and attention sees sequences both ways where a layout says so."""
        ...

    @property
    def layer_names(self) -> str:
        """What the names of its layers' weights begin with, before the layer's number; empty if it has no layers."""
        ...

    @property
    def has_output_bias(self) -> bool:
        """Whether its language models have a bias on their vocabulary's logits."""
        ...

    @property
    def default_objective(self) -> str:
        """The kind of objective that its language models are pre-trained with unless a study says otherwise."""
        ...

    @property
    def options(self) -> type[Options]:
        """The model of its own fields in an architecture."""
        ...

    @property
    def reference_habits(self) -> Mapping[str, Any]:
        """Fields of an architecture as the paper's released code has them, where that differs from the defaults."""
        ...

    def check(self, architecture: Any) -> None:
        """Raise ValueError, naming fields and values, if there is no model of this shape."""
        ...


FAMILIES: Registry[Family] = Registry(
    "kind of model",
    {
        "encoder": "tlm.modeling.families.encoder",
        "decoder": "tlm.modeling.families.decoder",
        "llama": "tlm.modeling.families.llama",
        "bytes": "tlm.modeling.families.bytes",
    },
)
"""By `Architecture.kind`."""
