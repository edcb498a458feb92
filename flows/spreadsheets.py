"""CSV that others open in a spreadsheet, which computes what looks like a formula, whoever wrote it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

FORMULA = r"^(\s*[=+\-@＝＋－＠]|[\t\r\n])"
"""How a cell begins that a spreadsheet computes, or from which it cuts what stands before such a sign."""

EscapeFormulas = Annotated[
    bool,
    typer.Option(
        "--escape-formulas",
        help="In CSV, put an apostrophe before text that a spreadsheet would compute (it begins with = + - @). "
        "Without it every text is written as it is: open the file with care if you do not know who wrote the texts.",
    ),
]


def without_formulas(table: Any) -> Any:
    """An Arrow table with an apostrophe before every string that a spreadsheet would compute: it is shown as text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = [
        pc.replace_substring_regex(column, FORMULA, r"'\0")
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        else column
        for column in table.columns
    ]
    return pa.Table.from_arrays(columns, schema=table.schema)
