"""Texts that show nothing: zero-width and direction marks, soft hyphens, byte order marks, accents without a letter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tlm.data.sources.base import Loaded
from tlm.errors import UserError

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
        UserError: if there is no such item.
    """
    import pyarrow.compute as pc

    hidden = shows_nothing(loaded.table["text"])
    count = pc.sum(hidden).as_py() or 0
    if count == loaded.table.num_rows:
        raise UserError(
            f"source {source}: none of its {count:,} texts has a visible character.",
            "Check that the file is the right one.",
        )
    if not count:
        return loaded
    return replace(loaded, table=loaded.table.filter(pc.invert(hidden)), facts={**loaded.facts, "invisible": count})
