"""A user's own options, in JSON lines: `{"prefix": "The sky is", "options": ["blue.", "loud."], "gold": 0}`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tlm.data.benchmarks.item import Fields, Item, Located, lines_of
from tlm.study.likelihood import OptionFiles


def read(benchmark: OptionFiles, files: Sequence[tuple[Path, str]]) -> list[Located]:
    """One item for each line; item_id is file:line. Without a prefix an option has no separator before it."""
    return [(row.where, _item(benchmark, row)) for row in lines_of(files)]


def _item(benchmark: OptionFiles, row: Fields) -> Item:
    prefix = "" if benchmark.prefix_column is None else row.text(benchmark.prefix_column, may_be_empty=True)
    separator = benchmark.separator if prefix else ""
    options = tuple(separator + option for option in row.texts(benchmark.options_column))
    group = None if benchmark.group_column is None else row.name(benchmark.group_column)
    item_id = row.where.replace(", line ", ":")
    return Item(item_id, (prefix,) * len(options), options, row.index(benchmark.gold_column), group)
