"""WordPiece trained on text: its alphabet, then the pieces that are made of it. What training and use have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers.normalizers import Normalizer
    from tokenizers.pre_tokenizers import PreTokenizer

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUES = "##"
"""What a token begins with that continues a word."""
WORD_LENGTH = 100
"""Characters of the longest word. BERT's limit: the time that a word takes grows with the square of its length."""


def normalize(lowercase: bool) -> Normalizer:
    """BERT's: control characters go; accents too, if `lowercase`; Chinese characters stand alone."""
    from tokenizers.normalizers import BertNormalizer

    return BertNormalizer(lowercase=lowercase)


def cut_into_words(word_length: int | None) -> PreTokenizer:
    """BERT's: at white space and around punctuation; after `word_length` characters too, if given."""
    from tokenizers.pre_tokenizers import BertPreTokenizer, FixedLength, Sequence

    return Sequence([BertPreTokenizer(), FixedLength(word_length)]) if word_length else BertPreTokenizer()


def train_wordpiece(
    texts: Iterable[str], *, vocab_size: int, limit_alphabet: int, lowercase: bool = True
) -> tuple[str, ...]:
    """Train WordPiece on `texts`, in all of the library's threads; the same texts give the same tokens.

    Args:
        vocab_size: tokens, at most.
        limit_alphabet: different characters, at most: the most frequent ones, as many as take half of the vocabulary. A
            text that was not cleaned has thousands, and each would be two tokens that a model hardly ever sees.

    Returns:
        The tokens by id, the special ones first.
    """
    texts = list(texts)
    words = Counter(chain.from_iterable(text.split(" ") for text in texts))
    # The library numbers the pieces "##a" … in the order of a randomly seeded hash map, and breaks ties between merges by
    # those numbers; it breaks ties between characters, too, by chance. A first pass over each word once, without merges,
    # finds both; given in order, the second repeats itself.
    found = _train(list(words), SPECIAL_TOKENS, lowercase, vocab_size=0)
    continuing = {token[-1] for token in found if token.startswith(CONTINUES) and len(token) == 3}
    room = (vocab_size - len(SPECIAL_TOKENS)) // 2
    alphabet = choose_alphabet(_count_characters(words, lowercase), continuing, limit_alphabet, room)
    first = (*SPECIAL_TOKENS, *(CONTINUES + character for character in sorted(continuing.intersection(alphabet))))
    exactly = {"initial_alphabet": alphabet, "limit_alphabet": len(alphabet)}
    return _train(texts, first, lowercase, vocab_size=vocab_size, **exactly)


def choose_alphabet(counts: Mapping[str, int], continuing: set[str], limit: int, room: int) -> list[str]:
    """The most frequent characters: at most `limit`, and no more than have room among `room` tokens.

    Args:
        continuing: those that also stand inside a word, and so are two tokens each.
    """
    chosen: list[str] = []
    for character in sorted(counts, key=lambda character: (-counts[character], character))[:limit]:
        room -= 2 if character in continuing else 1
        if room < 0:
            break
        chosen.append(character)
    return chosen


def _count_characters(words: Mapping[str, int], lowercase: bool) -> dict[str, int]:
    """Occurrences of each character that words have once they are normalised."""
    normalizer = normalize(lowercase)
    counts: Counter[str] = Counter()
    for word, times in words.items():
        for character in normalizer.normalize_str(word):
            counts[character] += times
    return {character: count for character, count in counts.items() if not character.isspace()}


def _train(texts: list[str], first: tuple[str, ...], lowercase: bool, **options: Any) -> tuple[str, ...]:
    """One pass of the library's trainer, with its `options`: tokens by id, those of `first` first."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.trainers import WordPieceTrainer

    tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalize(lowercase)
    tokenizer.pre_tokenizer = cut_into_words(WORD_LENGTH)
    trainer = WordPieceTrainer(special_tokens=list(first), min_frequency=2, show_progress=False, **options)
    tokenizer.train_from_iterator(texts, trainer)
    by_id = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return tuple(token for token, _ in by_id)
