"""Texts that show nothing: zero-width and direction marks, soft hyphens, byte order marks, accents without a letter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tlm.data.sources.base import Loaded
from tlm.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

INVISIBLE = r"^[\s\pZ\pC\p{Mn}\p{Me}]*$"
"""White space, separators, control, format and private characters, marks that stand on another character: Unicode's general
categories Z, C, Mn and Me. BERT's normaliser leaves nothing of such a text."""


def shows_nothing(text: Any) -> Any:
    """Of an Arrow column of strings: which of them have no visible character."""
    import pyarrow.compute as pc

    return pc.match_substring_regex(text, f"(?s){INVISIBLE}")


def only_visible(loaded: Loaded, source: str) -> Loaded:
    """The items whose text has a visible character; the fact `invisible` counts the others, if there are any.

    Raises:
        UserError: while its parts are gone through, if there is no such item.
    """
    return Loaded(_visible_parts(loaded, source), loaded.label_names, loaded.facts)


def _visible_parts(loaded: Loaded, source: str) -> Iterator[pa.Table]:
    import pyarrow.compute as pc

    items = invisible = 0
    for table in loaded.parts:
        hidden = shows_nothing(table["text"])
        count = pc.sum(hidden).as_py() or 0
        items, invisible = items + table.num_rows, invisible + count
        yield table.filter(pc.invert(hidden)) if count else table
    if invisible == items:
        raise UserError(
            f"source {source}: none of its {items:,} texts has a visible character.",
            "Check that the file is the right one.",
        )
    if invisible:
        loaded.facts["invisible"] = invisible
