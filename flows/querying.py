"""`tlm sql`: asking the catalogue, and showing what it found as a table fitted to the terminal, or all of it as CSV."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.spreadsheets import without_formulas
from flows.terminal import on_terminal, printable
from tlm.artifacts import catalogue
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.machine.runtime import Runtime
from tlm.stages import STAGES

WIDE = 24
"""Characters that a cell of the table has at least, if it needs them; more are folded."""
NULL = "NULL"


SHOWN_NAMES = 5
"""Artifacts left out of the catalogue that are named beside an answer."""


def ask(runtime: Runtime, sql: str, variables: Mapping[str, str] | None = None) -> pa.Table:
    """What the catalogue answers; it is built anew if it does not show what the store holds, or is damaged.

    Raises:
        UserError: for an error in the SQL; if the catalogue cannot be built.
    """
    if catalogue.is_stale(ArtifactStore(runtime.artifacts), runtime.catalogue, STAGES):
        rebuild(runtime)
    try:
        return catalogue.query(runtime.catalogue, sql, variables=variables)
    except catalogue.CatalogueDamaged:
        rebuild(runtime)
        return catalogue.query(runtime.catalogue, sql, variables=variables)


def variables_of(given: Sequence[str], sql: str) -> dict[str, str]:
    """The variables among `given` (`name=value`), each of which `sql` reads by `getvariable('name')`.

    Raises:
        UserError: for one of another form, or one that the query does not read.
    """
    known = re.findall(r"getvariable\('(\w+)'\)", sql)
    found = {}
    for each in given:
        name, is_set, value = each.partition("=")
        if not is_set or name not in known:
            problem = f"The query has no variable {name!r}." if is_set else f"--set {each} has no value."
            names = ", ".join(dict.fromkeys(known))
            raise UserError(problem, f"It reads {names}, for example --set {known[0]}=…" if known else "It reads none.")
        found[name] = value
    return found


def rebuild(runtime: Runtime) -> dict[str, str]:
    """Build the catalogue; return what is left out, by name, and why. Raises UserError if it cannot be built."""
    runtime.check_writable()
    return catalogue.build(ArtifactStore(runtime.artifacts), runtime.catalogue, STAGES)


def name_left_out(left: Mapping[str, str], console: Console) -> None:
    """Name the artifacts that the catalogue does not show, each with the reason on a line of its own."""
    for name, why in islice(left.items(), SHOWN_NAMES):
        console.print(f"left out: {printable(f'{name}: {why}')}", highlight=False, soft_wrap=True)
    if left:
        what = f"{len(left)} artifacts are" if len(left) > 1 else "It is"
        console.print(
            f"{what} not in the catalogue. A run makes again what it needs; `tlm invalidate NAME --yes` removes one.",
            highlight=False,
            soft_wrap=True,
        )


def show(
    found: pa.Table, console: Console, errors: Console, *, csv: bool, limit: int, escape_formulas: bool = False
) -> None:
    """Print a result: in a pipe (or with `csv`) as CSV, to a person as a table of at most `limit` rows.

    A table that is wider than the terminal is printed row by row, a line for each column; columns without a value in any
    of the rows are named once.
    """
    if csv or not on_terminal():
        from pyarrow.csv import write_csv

        plain = as_plain(found)
        write_csv(without_formulas(plain) if escape_formulas else plain, sys.stdout.buffer)
        if not found.num_rows:
            errors.print("0 rows.")
        return
    shown = found.slice(0, limit)
    columns = [[_cell(value) for value in column.to_pylist()] for column in as_plain(shown).columns]
    widths = [
        max(map(cell_len, (name, *_lines(cells)))) for name, cells in zip(found.column_names, columns, strict=True)
    ]
    least = [min(width, max(WIDE, cell_len(name))) for name, width in zip(found.column_names, widths, strict=True)]
    if sum(least) + 3 * len(least) + 1 <= console.width:
        console.print(_table(found.column_names, columns, least))
    else:
        _print_vertically(found.column_names, columns, console)
    if found.num_rows > limit:
        console.print(f"{limit} of {found.num_rows} rows; --limit or --csv shows more.")
    elif not found.num_rows:
        console.print("0 rows.")


def as_plain(found: pa.Table) -> pa.Table:
    """The same table with text in place of what CSV has no form for: nested values, intervals, bytes and the like.

    Dates and times are text as DuckDB writes them: Python and Arrow have none after the year 9999, and no infinite ones.
    """
    columns = []
    for column in found.columns:
        if pa.types.is_temporal(column.type) and not pa.types.is_interval(column.type):
            column = catalogue.as_text(column)
        elif not _is_plain(column.type):
            try:
                texts = [None if value is None else _as_text(value) for value in column.to_pylist()]
                column = pa.array(texts, pa.string())
            except (OverflowError, ValueError):  # such a date within it
                column = catalogue.as_text(column)
        columns.append(column)
    return pa.Table.from_arrays(columns, names=found.column_names)


def _is_plain(kind: pa.DataType) -> bool:
    types = pa.types
    tests = (types.is_boolean, types.is_integer, types.is_floating, types.is_decimal, types.is_string)
    return any(test(kind) for test in (*tests, types.is_large_string))


def _as_text(value: Any) -> str:
    plain = _as_json(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _as_json(value: Any) -> Any:
    if isinstance(value, pa.MonthDayNano):  # before the tuples: it is one
        return _interval(value)
    if isinstance(value, dict):
        return {str(key): _as_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(each) for each in value]
    if isinstance(value, bytes):
        return value.hex()
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def _interval(value: pa.MonthDayNano) -> str:
    """As DuckDB writes one: `1 month 2 days 00:00:03.5`."""
    months, days, nanoseconds = value
    seconds, fraction = divmod(abs(nanoseconds), 1_000_000_000)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    clock += f".{fraction:09}".rstrip("0") if fraction else ""
    parts = [f"{n} {unit}{'' if abs(n) == 1 else 's'}" for n, unit in ((months, "month"), (days, "day")) if n]
    if nanoseconds or not parts:
        parts.append(f"{'-' if nanoseconds < 0 else ''}{clock}")
    return " ".join(parts)


def _cell(value: Any) -> str:
    if value is None:
        return NULL
    return f"{value:.6g}" if isinstance(value, float) else printable(str(value))


def _lines(cells: list[str]) -> list[str]:
    return [line for cell in cells for line in cell.split("\n")]


def _table(names: list[str], columns: list[list[str]], least: list[int]) -> Table:
    table = Table()
    for name, width in zip(names, least, strict=True):
        table.add_column(Text(printable(name)), min_width=width, overflow="fold")
    for row in zip(*columns, strict=True):
        table.add_row(*map(Text, row))
    return table


def _print_vertically(names: list[str], columns: list[list[str]], console: Console) -> None:
    full = [(Text(printable(name)), cells) for name, cells in zip(names, columns, strict=True) if set(cells) - {NULL}]
    for position in range(len(columns[0])):
        console.print(f"row {position + 1}", style="bold", highlight=False)
        block = Table.grid(padding=(0, 2))
        block.add_column(overflow="fold", max_width=console.width // 2)
        block.add_column(overflow="fold")
        for name, cells in full:
            block.add_row(name, Text(cells[position]))
        console.print(block)
    empty = [printable(name) for name, cells in zip(names, columns, strict=True) if not set(cells) - {NULL}]
    if empty:
        what = f"Columns without a value in {'these rows' if columns[0] else 'any row'}"
        console.print(f"{what}: {', '.join(empty)}.", highlight=False)
