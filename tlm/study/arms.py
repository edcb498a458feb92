"""Arms of a study: other ways to train the same models on the same data, which its analysis sets beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, JsonValue, PositiveInt, ValidationError, field_validator, model_validator
from pydantic_core import to_jsonable_python

from tlm.study.architecture import Architecture
from tlm.study.base import Frozen, added
from tlm.study.recipes import RECIPES

PARTS = ("pretrain", "finetune", "initialization", "options")


class Arm(Frozen):
    """What an arm changes of its study's fields; the others it shares. `recipe` stands for the fields of a recipe."""

    pretrain: dict[str, JsonValue] = Field({})
    finetune: dict[str, JsonValue] = Field({})
    initialization: dict[str, JsonValue] = Field({})
    options: dict[str, JsonValue] = Field({}, description="of every architecture that is an encoder")
    budgets: tuple[PositiveInt, ...] = Field(
        (), description="numbers of pre-training steps, each a training of its own; default: the study's length"
    )
    tokenizer: dict[str, JsonValue] | None = added(None, description="in the place of the study's")
    max_length: PositiveInt | None = added(None, description="in the place of the study's")
    architectures: tuple[dict[str, JsonValue], ...] = added(
        (),
        description="in the place of the study's, in their order and by their names: models that read another tokenizer",
    )

    @model_validator(mode="before")
    @classmethod
    def _expand_recipe(cls, data: Any) -> Any:
        """The arm's own fields win over its recipe's."""
        if not isinstance(data, dict) or "recipe" not in data:
            return data
        own = {name: value for name, value in data.items() if name != "recipe"}
        if data["recipe"] not in RECIPES:
            raise ValueError(f"recipe: unknown {data['recipe']!r}; choose from {sorted(RECIPES)}")
        recipe = RECIPES[data["recipe"]]
        return {**own, **{part: {**recipe.get(part, {}), **own.get(part, {})} for part in PARTS}}

    @field_validator(*PARTS, "tokenizer", "architectures", mode="before")
    @classmethod
    def _as_in_a_file(cls, given: Any) -> Any:
        """What is written in Python (a tuple) is what comes back from a file (a list)."""
        return to_jsonable_python(given)

    @field_validator("pretrain", "finetune")
    @classmethod
    def _precision_is_the_studys(cls, given: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if given.get("precision") == "auto":
            raise ValueError("precision: auto is the study's to choose; give float32 or bfloat16, or leave it out")
        return given

    @field_validator("budgets")
    @classmethod
    def _each_budget_once(cls, budgets: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(budgets)) != len(budgets):
            raise ValueError(f"each number of steps once, got {list(budgets)}")
        return tuple(sorted(budgets))

    def applied(self, fields: Mapping[str, Any], steps: int | None) -> dict[str, Any]:
        """A study's fields as they are in this arm, pre-trained for so many steps (None: as long as the study says).

        A learning rate of the arm's own is that of every architecture. Raises ValueError, naming the field.
        """
        if self.architectures:
            fields = {**fields, "architectures": _by_their_names(fields["architectures"], self.architectures)}
        budget = {} if steps is None else {"steps": steps, "epochs": None}
        changed = {
            "pretrain": _changed("pretrain", fields["pretrain"], {**self.pretrain, **budget}),
            "finetune": _changed("finetune", fields["finetune"], self.finetune),
            "initialization": _changed("initialization", fields["initialization"], self.initialization),
            "architectures": tuple(
                _changed("architectures", each, {"options": {**dict(each.options), **self.options}})
                if self.options and each.kind == "encoder"
                else each
                for each in fields["architectures"]
            ),
        }
        for field in ("tokenizer", "max_length"):
            if (own := getattr(self, field)) is not None:
                changed[field] = own
        for part, rates in (("pretrain", "learning_rates"), ("finetune", "finetune_learning_rates")):
            if "learning_rate" in getattr(self, part):
                changed[rates] = {}
        return {**fields, **changed}


def _by_their_names(theirs: Sequence[Architecture], own: Sequence[Mapping[str, Any]]) -> tuple[Architecture, ...]:
    found = tuple(Architecture.model_validate(each) for each in own)
    names = [[each.name for each in architectures] for architectures in (found, theirs)]
    if names[0] != names[1]:
        raise ValueError(f"architectures: {names[0]}; an arm's have the names of the study's, {names[1]}")
    return found


def _changed(part: str, config: Any, changes: Mapping[str, Any]) -> Any:
    try:
        return type(config).model_validate({**dict(config), **changes}) if changes else config
    except ValidationError as error:
        (first, *_) = error.errors()
        place = ".".join(str(each) for each in (part, *first["loc"]))
        raise ValueError(f"{place}: {first['msg'].removeprefix('Value error, ')}") from error
