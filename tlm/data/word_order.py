"""Shuffling words: what does pre-training learn from their order, and what from the words alone?

Words are moved whole: a token that continues a word stays with it. One registry, `SHUFFLES`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tlm.data.ragged import Ragged
from tlm.data.tokenizer import Tokenizer

Shuffle = Callable[[Ragged, Tokenizer, np.random.Generator], Ragged]
"""(corpus, tokenizer, generator) → the corpus with as many paragraphs and the same words in another order."""

Mask = NDArray[np.bool_]

SENTENCE_ENDS = (".", "!", "?")


def shuffle_within_sentences(tokens: Ragged, tokenizer: Tokenizer, generator: np.random.Generator) -> Ragged:
    """Permute the words of each sentence; the tokens that end one ("." of an abbreviation, too) stay where they are."""
    ends = _is_end(tokens, tokenizer)
    words = _words(tokens, tokenizer)
    # An end is a sentence to itself: it and what follows it begin a new one.
    begins = _paragraph_starts(tokens) | ends | _follows(ends)
    sentence = np.cumsum(begins)[words.offsets[:-1]]
    order = np.lexsort((generator.random(len(words)), sentence))
    return Ragged(words.take(order).ids, tokens.offsets)


def shuffle_across_corpus(tokens: Ragged, tokenizer: Tokenizer, generator: np.random.Generator) -> Ragged:
    """Permute all words of the corpus, sentence ends too, and refill each paragraph with as many words as it had.

    A paragraph's number of tokens may change; training cuts what is then beyond max_length, as it always does.
    """
    words = _words(tokens, tokenizer)
    shuffled = words.take(generator.permutation(len(words)))
    first_word = np.searchsorted(words.offsets, tokens.offsets)
    return Ragged(shuffled.ids, shuffled.offsets[first_word])


SHUFFLES: dict[str, Shuffle] = {"sentence": shuffle_within_sentences, "corpus": shuffle_across_corpus}


def _words(tokens: Ragged, tokenizer: Tokenizer) -> Ragged:
    """The same ids, one sequence for each word.

    A continuation with nothing to continue (its word's beginning was removed) begins a word.
    """
    begins = tokenizer.begins_word[tokens.ids] | _paragraph_starts(tokens) | _follows(_is_end(tokens, tokenizer))
    return Ragged(tokens.ids, np.append(np.flatnonzero(begins), len(tokens.ids)).astype(np.int64))


def _is_end(tokens: Ragged, tokenizer: Tokenizer) -> Mask:
    return np.array([token in SENTENCE_ENDS for token in tokenizer.vocabulary.tokens])[tokens.ids]


def _paragraph_starts(tokens: Ragged) -> Mask:
    starts = np.zeros(len(tokens.ids), dtype=bool)
    starts[tokens.offsets[:-1][tokens.lengths > 0]] = True
    return starts


def _follows(mask: Mask) -> Mask:
    """True at each position that comes after one where `mask` is true."""
    return np.concatenate([[False], mask])[:-1]
