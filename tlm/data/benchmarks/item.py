"""An item of a benchmark, and what must hold of every one."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from tlm.data.sources.formats import json_lines
from tlm.data.sources.values import UNSEEN, WHOLE_CHARACTERS, half_character, not_utf8
from tlm.errors import UserError


@dataclass(frozen=True)
class Item:
    """Options, of which one is right. Option k is scored as the text `options[k]` that follows `prefixes[k]`.

    An option begins with the white space that separates it from its prefix.
    """

    item_id: str
    prefixes: tuple[str, ...]
    options: tuple[str, ...]
    gold: int
    group: str | None = None
    """A paradigm, a subject; None if items have no groups."""
    phenomenon: str | None = None
    """What several groups have in common."""


Located: TypeAlias = tuple[str, Item]
"""Where an item stands, for errors (`blimp/data/wh_island.jsonl, line 3`), and the item."""


def checked(located: Sequence[Located], source: str, *, distinct: bool) -> list[Item]:
    """The items, if they can be scored. UserError with the place of the first of which that is not so; or for no item."""
    if not located:
        raise UserError(f"{source} holds no item.", "Check that the file is whole.")
    places: dict[object, str] = {}
    for where, item in located:
        _check(where, item)
        once: list[tuple[str, object]] = [("the name", item.item_id)]
        if distinct:
            once.append(("the text", (item.group, item.prefixes, item.options)))
        for what, key in once:
            if key in places:
                raise UserError(
                    f"{where}: has {what} of the item at {places[key]}.", "Every item counts once: remove one of them."
                )
            places[key] = where
    return [item for _, item in located]


def _check(where: str, item: Item) -> None:
    if len(item.options) < 2:
        raise UserError(
            f"{where}: {len(item.options)} option, and two are needed at least.", "Give the wrong ones too."
        )
    if not 0 <= item.gold < len(item.options):
        raise UserError(
            f"{where}: the right option is number {item.gold}, but there are {len(item.options)}, counted from 0.",
            "Correct it.",
        )
    for text in item.options:
        if not visible(text):
            raise UserError(f"{where}: an option is empty.", "Give every option a text.")
    for text in (*item.prefixes, *item.options):
        if half := half_character(text):
            raise UserError(f"{where}: half a character ({half}).", WHOLE_CHARACTERS)


def visible(text: str) -> bool:
    """Whether a text has a character that shows."""
    return any(unicodedata.category(character) not in UNSEEN for character in text)


# --- reading lines of JSON ---


@dataclass(frozen=True)
class Fields:
    """A line's object, and where it stands; a field that is not as it is asked for is a UserError with that place."""

    where: str
    row: Mapping[str, Any]

    def text(self, name: str, *, may_be_empty: bool = False) -> str:
        value = self._value(name)
        if not isinstance(value, str):
            raise self._wrong(name, "not a text")
        if not may_be_empty and not visible(value):
            raise self._wrong(name, "empty")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._value(name)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self._wrong(name, "not a list of texts")
        return tuple(value)

    def object(self, name: str) -> Fields:
        value = self._value(name)
        if not isinstance(value, dict):
            raise self._wrong(name, "not an object")
        return Fields(self.where, value)

    def index(self, name: str) -> int:
        """A whole number, or a text of its digits, as some copies of public files have."""
        value = self._value(name)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
            return int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong(name, "not a whole number")
        return value

    def name(self, name: str) -> str:
        """A text or a whole number, as a text."""
        value = self._value(name)
        if not isinstance(value, str | int) or isinstance(value, bool) or not str(value).strip():
            raise self._wrong(name, "neither a text nor a whole number")
        return str(value)

    def _value(self, name: str) -> Any:
        if name not in self.row:
            raise UserError(
                f"{self.where}: has no field {name!r}; it has {', '.join(map(repr, self.row)) or 'none'}.",
                "Give it one, or name the one that is meant.",
            )
        return self.row[name]

    def _wrong(self, name: str, what: str) -> UserError:
        return UserError(f"{self.where}: the field {name!r} is {what} ({self.row[name]!r:.60}).", "Correct it.")


def lines_of(files: Sequence[tuple[Path, str]]) -> Iterator[Fields]:
    """Every object of some files of JSON lines. UserError, with the line, for what is none or is not UTF-8."""
    for place, name in files:
        try:
            with open(place, encoding="utf-8-sig") as file:
                for line, row in json_lines(file, name):
                    yield Fields(f"{name}, line {line}", row)
        except UnicodeDecodeError as error:
            raise not_utf8(place, name) from error
        except OSError as error:
            raise UserError(f"Cannot read {name}: {error.strerror or error}.", "Check the file.") from error
