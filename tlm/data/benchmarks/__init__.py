"""Benchmarks of options: from a configuration to items, each with its options and the right one.

A new one is a model in `tlm.study.likelihood`, and a module here or a function in one, with its entry in READERS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from tlm.data.benchmarks.item import Item, Located, checked
from tlm.data.sources.base import confine, digests, list_files, require, shown
from tlm.study.likelihood import BenchmarkConfig

Read = Callable[[Any, Sequence[tuple[Path, str]]], "list[Located]"]
"""(configuration, places of the files and what errors call them) → items, unchecked beyond their form."""

_REMEDY = "Set TLM_DATA_ROOT to the folder that holds the data, or give `path` in the evaluation's `data`."


@dataclass(frozen=True)
class Reader:
    """How a kind of benchmark is read."""

    read: str
    """module.function in this package, imported when it is used."""
    suffix: str = ".jsonl"
    """Of its files, where the path is a folder."""
    distinct: bool = True
    """Whether an item that occurs twice is an error."""


READERS: Mapping[str, Reader] = {
    "blimp": Reader("blimp.read"),
    "arc_easy": Reader("choices.read_arc"),
    "hellaswag": Reader("choices.read_hellaswag"),
    "winogrande": Reader("choices.read_winogrande"),
    # Its public files repeat 27 questions.
    "mmlu": Reader("mmlu.read", ".csv", distinct=False),
    "files": Reader("option_files.read"),
}


def identity(benchmark: BenchmarkConfig, data_root: str) -> dict[str, Any]:
    """What makes its content: the kind, its fields but for the path, and the digest of each file by its name.

    Raises UserError if files are missing or outside the data root.
    """
    fields = benchmark.identity(exclude={"path"})
    places = {place.name: place for place in _places(benchmark, data_root)}
    return {**fields, "sha256": digests(places)}


def read(benchmark: BenchmarkConfig, data_root: str, limit: int | None = None) -> list[Item]:
    """Every item in the order of its files, or the first `limit` of each group.

    Raises:
        UserError: with its place: files missing; not UTF-8, JSON or CSV; a field missing or of another type; an empty
            option or half a character; under two options; a gold out of range; an item that occurs twice; no item at all.
    """
    reader = READERS[benchmark.kind]
    module, _, function = reader.read.partition(".")
    read_items: Read = getattr(import_module(f"{__name__}.{module}"), function)
    files = [(place, shown(data_root, place)) for place in _places(benchmark, data_root)]
    items = checked(read_items(benchmark, files), benchmark.path, distinct=reader.distinct)
    return items if limit is None else _first_of_each_group(items, limit)


def _places(benchmark: BenchmarkConfig, data_root: str) -> list[Path]:
    if confine(data_root, benchmark.path).is_dir():
        return list_files(data_root, benchmark.path, (READERS[benchmark.kind].suffix,), _REMEDY)
    return [require(data_root, {"data": benchmark.path}, _REMEDY)["data"]]


def _first_of_each_group(items: list[Item], limit: int) -> list[Item]:
    taken: dict[str | None, int] = {}
    kept = []
    for item in items:
        taken[item.group] = taken.get(item.group, 0) + 1
        if taken[item.group] <= limit:
            kept.append(item)
    return kept
