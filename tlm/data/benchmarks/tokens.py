"""A benchmark's options as token ids, cut by nothing that is not counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tlm.data.benchmarks.item import Item
from tlm.data.ragged import Ids, Ragged, Rows
from tlm.data.tokenizer import Tokenizer, begin
from tlm.errors import UserError
from tlm.study.likelihood import TooLong


@dataclass(frozen=True)
class OptionTokens:
    """All options of all items, one after another."""

    texts: Ragged
    """Prefix and option; empty for an option that does not fit."""
    starts: Rows
    """Of each text, where the option begins."""
    cut: NDArray[np.bool_]
    """Whether the beginning of its prefix is gone."""
    item_of: Rows
    """The number of its item."""

    @property
    def fits(self) -> NDArray[np.bool_]:
        return self.texts.lengths > 0

    @property
    def sizes(self) -> Rows:
        """Tokens of each option, its prefix not counted; 0 for one that does not fit."""
        return self.texts.lengths - self.starts

    def items_with(self, which: NDArray[np.bool_]) -> int:
        """How many items have such an option."""
        return len(np.unique(self.item_of[which]))


def tokenise(items: Sequence[Item], tokenizer: Tokenizer, max_length: int, too_long: TooLong) -> OptionTokens:
    """Prefix and option are encoded as one text, and the option begins where that differs from its prefix alone.

    A token that reaches across the border, as byte-pair encodings may have one, so belongs to the option.

    Args:
        max_length: tokens of a sequence at most, [CLS] and [SEP] counted.
        too_long: what happens to an option that does not fit with its prefix (`Likelihood.too_long`); with cut_prefix, one
            that does not fit by itself either is left out, as with skip.

    Raises:
        UserError: naming the item, if one does not fit and that is refused, or has an option without a token; or if no item
            is left.
    """
    prefixes = [prefix for item in items for prefix in item.prefixes]
    options = [option for item in items for option in item.options]
    item_of = np.repeat(np.arange(len(items)), [len(item.options) for item in items])
    whole = tokenizer.encode([prefix + option for prefix, option in zip(prefixes, options, strict=True)])
    row_of = {prefix: row for row, prefix in enumerate(dict.fromkeys(prefixes))}
    before = tokenizer.encode(list(row_of))
    starts = np.array([_common(before[row_of[p]], whole[i]) for i, p in enumerate(prefixes)], dtype=np.int64)
    ends = whole.lengths
    if (starts == ends).any():
        raise UserError(
            f"{_named(items, item_of, starts == ends)} has no token of its own.",
            "Give it a text that the tokenizer reads.",
        )
    room = max_length - 2
    long = ends > room
    if long.any() and too_long == "refuse":
        raise UserError(
            f"{_named(items, item_of, long)} has {ends[long.argmax()]} tokens with its prefix, and {room} fit "
            f"(max_length={max_length}); so it is with {long.sum():,} of {len(options):,} options.",
            "Raise max_length, or set too_long: skip or too_long: cut_prefix in the evaluation.",
        )
    cut = long & (ends - starts <= room) if too_long == "cut_prefix" else np.zeros_like(long)
    lost = np.where(cut, begin(tokenizer, whole, ends - room, starts), 0)
    kept = np.where(long & ~cut, 0, ends - lost)
    place = np.arange(len(whole.ids)) - np.repeat(whole.offsets[:-1], ends)
    texts = whole.keep((place >= np.repeat(lost, ends)) & np.repeat(kept > 0, ends))
    found = OptionTokens(texts, np.where(kept > 0, starts - lost, 0), cut, item_of)
    if found.items_with(~found.fits) == len(items):
        raise UserError(f"None of {len(items):,} items fits max_length={max_length}.", "Raise max_length.")
    return found


def _common(a: Ids, b: Ids) -> int:
    """How many ids two sequences begin with alike."""
    size = min(len(a), len(b))
    differ = a[:size] != b[:size]
    return int(differ.argmax()) if differ.any() else size


def _named(items: Sequence[Item], item_of: Rows, which: NDArray[np.bool_]) -> str:
    """The first of the options, as an error calls it."""
    place = int(which.argmax())
    item = int(item_of[place])
    return f"Item {items[item].item_id}, option {place - int(np.searchsorted(item_of, item))}"
