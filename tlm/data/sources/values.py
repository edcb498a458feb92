"""What a text and a label may be: one rule, whatever the format that they come in."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tlm.errors import UserError

# Says where value i (0-based) of a column is, for an error: "ag_news/train.parquet, row 18".
Where = Callable[[int], str]

UNSEEN = {"Cc", "Cf", "Mn", "Me", "Zl", "Zp", "Zs"}
"""Unicode's categories of characters that show nothing by themselves: controls, marks, accents, spaces."""
_HALF = re.compile("[\ud800-\udfff]")
LARGEST_SORTED_BY_VALUE = 1_000
"""Digits: names that are longer numbers are sorted as text."""
_WHOLE_NUMBER = re.compile(rf"-?\d{{1,{LARGEST_SORTED_BY_VALUE}}}")


def label_name(value: Any) -> str | None:
    """A label as its name: white space around it is cut, 1 is "1", true is "true". None: it is missing, that is null, or
    without a character that can be seen.

    Raises:
        TypeError: if it is neither a string nor a whole number nor a truth value.
    """
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int):
        name = str(value).strip()
        return name if any(unicodedata.category(c) not in UNSEEN for c in name) else None
    raise TypeError(f"the label is a {type(value).__name__}")


def label_names(values: Sequence[Any], where: Where) -> list[str | None]:
    """`label_name` of each value. Raises UserError with the place of the first one that can be none."""
    names = []
    for index, value in enumerate(values):
        try:
            names.append(label_name(value))
        except TypeError as error:
            raise UserError(f"{where(index)}: {error}.", "Labels are strings or whole numbers.") from None
    return names


def known_names(names: Iterable[str], where: str) -> tuple[str, ...]:
    """The names that a source gives to its labels, as `label_name` has them.

    Raises:
        UserError: if one is blank or holds half a character, or two are the same once white space around them is cut.
    """
    found: list[str] = []
    for number, given in enumerate(names):
        name = label_name(given)
        if name is None:
            raise UserError(f"{where}: the name of label {number} is missing.", "Give each label a name.")
        if half := half_character(name):
            raise UserError(f"{where}: the name of label {number} holds half a character ({half}).", WHOLE_CHARACTERS)
        if name in found:
            raise UserError(f"{where}: the label name {name!r} occurs twice.", "Give each label its own name.")
        found.append(name)
    return tuple(found)


def sorted_names(names: Iterable[str]) -> list[str]:
    """Distinct names in their order: by value if all are whole numbers, else as text."""
    distinct = sorted(set(names))
    if all(_WHOLE_NUMBER.fullmatch(name) for name in distinct):
        distinct.sort(key=lambda name: (int(name), name))
    return distinct


WHOLE_CHARACTERS = "Write the whole character, or leave it out."


def half_character(text: str) -> str | None:
    r"""The first lone surrogate of a text, spelled out (\ud83c), which no file of text can hold; None if there is none."""
    found = _HALF.search(text)
    return f"\\u{ord(found[0]):04x}" if found else None


# --- JSON ---


class RepeatedKey(ValueError):
    """An object has a key twice: which of its values is meant, nobody knows."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the key {key!r} occurs twice")
        self.key = key


def parse_json(text: str) -> Any:
    """One JSON value. NaN, which some programs write for a missing value and JSON does not have, is None.

    Raises:
        RepeatedKey: see there.
        ValueError: if it is not JSON, or is nested too deeply to be read; a JSONDecodeError where there is a place.
    """
    try:
        return json.loads(text, object_pairs_hook=_distinct, parse_constant=_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _constant(name: str) -> float | None:
    return None if name == "NaN" else float(name)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise RepeatedKey(next(key for key in keys if keys.count(key) > 1))
    return found


# --- bytes ---


def not_utf8(place: Path, name: str) -> UserError:
    """The error for a file with bytes that are no UTF-8: the line (from 1) and the place in the file (from 0) of the first.

    A decoder that reads a file in pieces counts from the last of them, so the file is read again.
    """
    line, offset = 1, 0
    with open(place, "rb") as file:
        for raw in file:
            try:
                raw.decode("utf-8")
            except UnicodeDecodeError as error:
                line += raw[: error.start].count(b"\r")
                offset += error.start
                break
            line += 1 + raw.count(b"\r") - raw.endswith(b"\r\n")
            offset += len(raw)
    return UserError(f"{name}, line {line}: not UTF-8 (byte {offset} of the file).", "Save the file as UTF-8.")
