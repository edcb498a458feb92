"""Options as token ids: where each begins, and what happens to one that does not fit."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from tlm.data.benchmarks.item import Item
from tlm.data.benchmarks.tokens import tokenise
from tlm.data.ragged import Ragged
from tlm.data.tokenizer import Tokenizer, Vocabulary
from tlm.errors import UserError


class Pairs:
    """Letters by their number; two alike that follow each other are one token, also across a border."""

    vocabulary = Vocabulary(tuple(map(chr, range(256))), cls=0, sep=1)
    begins_word = np.ones(256, dtype=bool)

    def encode(self, texts: list[str], max_length: int | None = None) -> Ragged:
        return Ragged.from_lists(self._ids(text) for text in texts)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = []
        for letter in text.replace(" ", ""):
            if ids and ids[-1] == ord(letter):
                ids[-1] += 100
            else:
                ids.append(ord(letter))
        return ids


@cache
def tokenizer() -> Tokenizer:
    return Pairs()  # type: ignore[return-value]


def item(prefix: str, *options: str) -> Item:
    return Item(f"i-{prefix}", (prefix,) * len(options), options, 0)


ITEMS = [item("abc", " d", " ef"), item("abcabc", " de", " d"), item("ab", " bcd", " x")]


def test_an_option_begins_where_its_prefix_ends_and_a_token_across_the_border_is_the_options() -> None:
    found = tokenise(ITEMS, tokenizer(), 20, "refuse")
    assert found.starts.tolist() == [3, 3, 6, 6, 1, 2] and found.sizes.tolist() == [1, 2, 2, 1, 3, 1]
    assert found.item_of.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.fits.all() and not found.cut.any()


def test_what_does_not_fit_is_an_error_that_names_it_or_counted_as_not_scored_or_cut_on_the_left() -> None:
    with pytest.raises(
        UserError, match=r"Item i-abcabc, option 0 has 8 tokens with its prefix, and 5 fit .*2 of 6 options"
    ):
        tokenise(ITEMS, tokenizer(), 7, "refuse")
    skipped = tokenise(ITEMS, tokenizer(), 7, "skip")
    assert skipped.fits.tolist() == [True, True, False, False, True, True] and not skipped.cut.any()
    assert skipped.items_with(~skipped.fits) == 1
    cut = tokenise(ITEMS, tokenizer(), 7, "cut_prefix")
    assert cut.cut.tolist() == [False, False, True, True, False, False] and cut.fits.all()
    assert bytes(cut.texts[2].tolist()) == b"abcde" and cut.starts.tolist() == [3, 3, 3, 4, 1, 2]
    long = tokenise([*ITEMS, item("a", " bcdefg", " x")], tokenizer(), 7, "cut_prefix")
    assert long.sizes.tolist()[-2:] == [0, 1]


def test_an_option_without_a_token_and_a_benchmark_of_which_nothing_fits_are_errors() -> None:
    with pytest.raises(UserError, match="Item i-ab, option 1 has no token of its own"):
        tokenise([item("ab", "c", " ")], tokenizer(), 7, "skip")
    with pytest.raises(UserError, match="None of 1 items fits max_length=4"):
        tokenise([item("ab", "c", "d")], tokenizer(), 4, "skip")
