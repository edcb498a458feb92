"""YAML as people write it by hand, read strictly: a key that stands twice is an error, and so is what is huge."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from tlm.data.sources.values import half_character, not_utf8
from tlm.errors import UserError
from tlm.machine.files import read_plain, reason

BYTES, VALUES, DEPTH = 1_000_000, 100_000, 64
"""The largest file, how many values it may hold once its aliases are written out, and how deep they may be nested."""


class RefusedText(yaml.YAMLError):
    """Text that is YAML but does not say one thing; the message names the line."""


class _Loader(yaml.SafeLoader):
    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _measure(node, {})
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise RefusedText(f"line {key.start_mark.line + 1}: {key.value} stands twice")
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml_file(path: Path) -> Any:
    """What a YAML file holds.

    Raises:
        UserError: naming the file, and the line where there is one: if it cannot be read, is no YAML, has a key twice, or
            is larger or deeper than any study.
    """
    try:
        text = read_plain(path, BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(path, str(path)) from error
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        why = reason(error) if isinstance(error, OSError) else error
        raise UserError(f"Cannot read the study file {path}: {why}.", "`tlm show demo > my_study.yaml`") from error
    try:
        return read_yaml(text)
    except RefusedText as error:
        raise UserError(f"{path}, {error}.", "A study says each thing once; `tlm show demo` prints one.") from error
    except yaml.YAMLError as error:
        raise UserError(
            f"{path} is not YAML: {' '.join(str(error).split())}.", "`tlm show demo` prints one."
        ) from error


def read_yaml(text: str) -> Any:
    """What YAML text holds. Raises yaml.YAMLError, its subclass RefusedText among them."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 – a SafeLoader
    except RecursionError as error:
        raise RefusedText(f"line 1: nested more than {DEPTH} deep") from error
    except ValueError as error:  # a date or a number that there is not
        raise yaml.YAMLError(str(error)) from error
    except (TypeError, LookupError, AttributeError) as error:  # !!map [a], !!bool x
        raise yaml.YAMLError("a value is not of the type that its tag says") from error


def _measure(node: yaml.Node, known: dict[int, tuple[int, int]], depth: int = 1) -> tuple[int, int]:
    """The values under a node with aliases written out, and the levels they take; raises RefusedText."""
    line = node.start_mark.line + 1
    values, height = known.get(id(node), (0, 0))
    if not values:
        if isinstance(node, yaml.ScalarNode) and (half := half_character(node.value)):
            raise RefusedText(f"line {line}: half a character ({half}), which no file can hold")
        values = height = 1
        if depth <= DEPTH and isinstance(node, yaml.CollectionNode):
            below = (
                node.value if isinstance(node, yaml.SequenceNode) else [each for pair in node.value for each in pair]
            )
            sizes = [_measure(each, known, depth + 1) for each in below]
            values += sum(size for size, _ in sizes)
            height += max((levels for _, levels in sizes), default=0)
        known[id(node)] = values, height
    if depth + height - 1 > DEPTH:
        raise RefusedText(f"line {line}: nested more than {DEPTH} deep")
    if values > VALUES:
        raise RefusedText(f"line {line}: more than {VALUES:,} values")
    return values, height
