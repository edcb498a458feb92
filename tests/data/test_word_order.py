"""Shuffled words: nothing is lost, words stay whole, and each shuffle moves them just as far as it says."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from helpers import vocabulary
from hypothesis import given
from hypothesis import strategies as st

from tlm.data.ragged import Ragged
from tlm.data.word_order import SENTENCE_ENDS, SHUFFLES, shuffle_across_corpus, shuffle_within_sentences
from tlm.data.wordpiece import WordPiece

VOCABULARY = vocabulary("the", "sea", "ship", "sail", "##s", "##ing", ".", "!", "?", ",")
TOKENIZER = WordPiece(VOCABULARY)
ID = {token: index for index, token in enumerate(VOCABULARY.tokens)}
ENDS = {ID[token] for token in SENTENCE_ENDS}
CONTINUES = {ID["##s"], ID["##ing"]}
CORPUS = st.lists(st.lists(st.integers(1, len(VOCABULARY) - 1), max_size=12), min_size=1, max_size=5)
SEEDS = st.integers(0, 2**31)


def ids(text: str) -> list[int]:
    return [ID[token] for token in text.split()]


def texts(corpus: Ragged) -> list[str]:
    return [" ".join(VOCABULARY.tokens[i] for i in corpus[index]) for index in range(len(corpus))]


def words(paragraph: list[int]) -> list[tuple[int, ...]]:
    """A continuation belongs to the word before it, unless there is none or a sentence ended there."""
    found: list[tuple[int, ...]] = []
    for token in paragraph:
        if token in CONTINUES and found and found[-1][-1] not in ENDS:
            found[-1] += (token,)
        else:
            found.append((token,))
    return found


def sentences(paragraph: list[int]) -> list[list[int]]:
    """The tokens between sentence ends, and each end on its own."""
    found: list[list[int]] = [[]]
    for token in paragraph:
        if token in ENDS:
            found += [[token], []]
        else:
            found[-1].append(token)
    return found


@pytest.mark.parametrize("scope", SHUFFLES)
@given(CORPUS, SEEDS)
def test_no_token_is_lost_no_word_broken_and_no_paragraph_added(scope: str, corpus: list[list[int]], seed: int) -> None:
    before = Ragged.from_lists(corpus)
    after = SHUFFLES[scope](before, TOKENIZER, np.random.default_rng(seed))
    assert Counter(after.ids.tolist()) == Counter(before.ids.tolist())
    assert len(after) == len(before)
    assert (after.ids.dtype, after.offsets.dtype) == (np.uint16, np.int64)


@given(CORPUS, SEEDS)
def test_within_sentences_every_sentence_keeps_its_place_its_words_and_its_end(
    corpus: list[list[int]], seed: int
) -> None:
    after = shuffle_within_sentences(Ragged.from_lists(corpus), TOKENIZER, np.random.default_rng(seed))
    for index, paragraph in enumerate(corpus):
        old, new = sentences(paragraph), sentences(after[index].tolist())
        assert [len(s) for s in new] == [len(s) for s in old]
        for one, other in zip(old, new, strict=True):
            # A word that began with a continuation may now stand behind another and read as its end.
            if not one or one[0] not in CONTINUES:
                assert Counter(words(other)) == Counter(words(one))
            assert Counter(other) == Counter(one)


@given(CORPUS, SEEDS)
def test_across_the_corpus_every_paragraph_keeps_its_number_of_words(corpus: list[list[int]], seed: int) -> None:
    whole = [[token for token in paragraph if token not in CONTINUES] for paragraph in corpus]
    with_ends = [
        [t for token in paragraph for t in ([token, ID["##s"]] if token == ID["ship"] else [token])]
        for paragraph in whole
    ]
    after = shuffle_across_corpus(Ragged.from_lists(with_ends), TOKENIZER, np.random.default_rng(seed))
    new = [words(after[index].tolist()) for index in range(len(after))]
    assert [len(paragraph) for paragraph in new] == [len(words(paragraph)) for paragraph in with_ends]
    assert Counter(w for p in new for w in p) == Counter(w for p in with_ends for w in words(p))


@pytest.mark.parametrize("scope", SHUFFLES)
@given(CORPUS, SEEDS)
def test_the_same_generator_shuffles_the_same(scope: str, corpus: list[list[int]], seed: int) -> None:
    one, two = (SHUFFLES[scope](Ragged.from_lists(corpus), TOKENIZER, np.random.default_rng(seed)) for _ in range(2))
    assert np.array_equal(one.ids, two.ids) and np.array_equal(one.offsets, two.offsets)


def test_every_order_of_a_sentence_comes_up_and_no_other() -> None:
    corpus = Ragged.from_lists([ids("the ship ##s sail ##ing . sea !"), [], ids("sea")])
    seen = {
        tuple(texts(shuffle_within_sentences(corpus, TOKENIZER, np.random.default_rng(seed)))) for seed in range(100)
    }
    orders = [
        "the ship ##s sail ##ing",
        "the sail ##ing ship ##s",
        "ship ##s the sail ##ing",
        "ship ##s sail ##ing the",
        "sail ##ing the ship ##s",
        "sail ##ing ship ##s the",
    ]
    assert seen == {(f"{order} . sea !", "", "sea") for order in orders}


def test_across_the_corpus_words_and_sentence_ends_change_paragraphs() -> None:
    corpus = Ragged.from_lists([ids("ship ##s ."), [], ids("sea")])
    seen = {tuple(texts(shuffle_across_corpus(corpus, TOKENIZER, np.random.default_rng(seed)))) for seed in range(100)}
    assert seen == {
        ("ship ##s .", "", "sea"),
        ("ship ##s sea", "", "."),
        (". ship ##s", "", "sea"),
        (". sea", "", "ship ##s"),
        ("sea ship ##s", "", "."),
        ("sea .", "", "ship ##s"),
    }


def test_a_continuation_whose_beginning_was_removed_is_a_word_to_itself() -> None:
    corpus = Ragged.from_lists([ids("the . ##s"), ids("##ing sea .")])
    seen = {
        tuple(texts(shuffle_within_sentences(corpus, TOKENIZER, np.random.default_rng(seed)))) for seed in range(20)
    }
    assert seen == {("the . ##s", "##ing sea ."), ("the . ##s", "sea ##ing .")}
