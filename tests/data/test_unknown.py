"""What a tokenizer does not know is counted word for word, and too much of it is refused with the cause."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tlm.data.ragged import Ragged
from tlm.data.tokenizer import Vocabulary
from tlm.data.unknown import LONGEST_EXAMPLE, MOST_UNKNOWN, Known, check_known, percent, say_unknown, unknown_words
from tlm.data.wordpiece import WordPiece, bert_vocabulary
from tlm.data.wordpiece_training import SPECIAL_TOKENS
from tlm.errors import UserError

TOKENIZER = WordPiece(bert_vocabulary((*SPECIAL_TOKENS, *"abc", "##a", "##b", ",", "中")))


class Syllables:
    """A tokenizer from outside: it has an [UNK], and does not say what became of it."""

    vocabulary = Vocabulary(("[UNK]", "la", "li"), unk=0)

    @property
    def begins_word(self) -> NDArray[np.bool_]:
        return np.array([True, False, False])

    def encode(self, texts: Any, max_length: int | None = None) -> Ragged:
        known = {"la": 1, "li": 2}
        return Ragged.from_lists([known.get(word, 0) for word in text.split()][:max_length] for text in texts)

    def save(self, folder: Path) -> dict[str, Any]:
        return {"vocab_size": 3}


def count(texts: list[str], tokenizer: Any = TOKENIZER) -> dict[str, Any]:
    known = Known()
    for start in range(0, len(texts), 2):
        known.add(tokenizer, texts[start : start + 2], tokenizer.encode(texts[start : start + 2]))
    return known.facts()


def test_words_letters_and_texts_without_a_token_are_counted() -> None:
    texts = ["ab, xy", "中国 cab", "xy", "\u200b", "", "a" * 101]
    assert count(texts) == {
        "words": 8,  # ab , xy 中 国 cab xy aaa…
        "unknown_words": 4,
        "letters": 5 + 5 + 2 + 1 + 101,
        "unknown_letters": 2 + 1 + 2 + 101,
        "without_token": 2,
        "unknown_most": [["xy", 2], ["国", 1], ["a" * (LONGEST_EXAMPLE - 1) + "…", 1]],
    }


@given(st.lists(st.text("abcxy,. 中国é\u0301\u200b\t", max_size=12)))
def test_of_wordpiece_every_unknown_word_is_one_unk_and_is_named_as_it_stands_in_the_text(texts: list[str]) -> None:
    encoded = TOKENIZER.encode(texts)
    unknown = unknown_words(TOKENIZER, texts, encoded)
    assert unknown.total() == int((encoded.ids == TOKENIZER.vocabulary.unk).sum())
    assert all(word in "\n".join(texts) for word in unknown)
    facts = count(texts)
    assert facts["unknown_words"] == unknown.total() <= facts["words"]
    assert facts["unknown_letters"] <= facts["letters"]


def test_a_tokenizer_that_does_not_name_them_has_unknown_words_between_white_space() -> None:
    assert unknown_words(Syllables(), ["la lo", "lo\tli", "la"], Syllables().encode(["la lo", "lo\tli", "la"])) == {
        "lo": 2
    }
    assert count(["la lo", "lo\tli"], Syllables())["unknown_letters"] == 4


def test_a_tokenizer_without_unk_knows_everything() -> None:
    bytes_only = Syllables()
    bytes_only.vocabulary = Vocabulary(("x", "la", "li"))
    assert unknown_words(bytes_only, ["lo"], bytes_only.encode(["lo"])) == Counter()


@pytest.mark.parametrize("unknown", [0, 1, 10, 11, 100])
def test_more_unknown_letters_than_allowed_are_refused_with_the_cause_and_what_is_unknown(unknown: int) -> None:
    texts = ["a" * (100 - unknown), "x " * unknown]
    facts = count(texts)
    if unknown <= 100 * MOST_UNKNOWN:
        check_known(facts, "source files-x", trained=True)
        return
    with pytest.raises(
        UserError, match=rf"source files-x: .* {unknown} % of the letters are unknown .* 'x' \({unknown}\)"
    ):
        check_known(facts, "source files-x", trained=True)
    for trained, way_out in ((True, "limit_alphabet and vocab_size"), (False, "kind: wordpiece")):
        with pytest.raises(UserError, match=way_out):
            check_known(facts, "source files-x", trained=trained)


def test_what_is_unknown_is_said_in_words() -> None:
    assert say_unknown(count(["ab cab"])) == "all 2 words are known to the tokenizer"
    assert say_unknown(count(["ab x ,"])).startswith("33.3 % of the words and 25 % of the letters are unknown")
    assert (percent(0), percent(0.0004), percent(0.1), percent(1)) == ("0 %", "less than 0.1 %", "10 %", "100 %")
