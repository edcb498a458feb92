"""Checks of names, for the models of a study: each raises ValueError, naming the field."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError


def unique(field: str, names: Any) -> list[Any]:
    names = list(names)
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ValueError(f"{field}: {twice} appears more than once")
    return names


def different(field: str, named: tuple[Any, ...]) -> None:
    """The same thing under two names is one thing, and would stand in the results once."""
    seen: dict[str, str] = {}
    for each in named:
        same = seen.setdefault(each.model_dump_json(exclude={"name"}), each.name)
        if same != each.name:
            raise ValueError(f"{field}: {each.name!r} and {same!r} differ in nothing but their names")


def known(field: str, names: Any, there: list[Any]) -> None:
    unknown = [n for n in names if n not in there]
    if unknown:
        raise ValueError(f"{field}: unknown {unknown}; choose from {there}")


def first_complaint(error: ValueError) -> str:
    """What an error says; of several complaints of pydantic's the first."""
    return error.errors()[0]["msg"].removeprefix("Value error, ") if isinstance(error, ValidationError) else str(error)
