"""WordPiece trained on text: its alphabet, then the pieces that are made of it. What training and use have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers.normalizers import Normalizer
    from tokenizers.pre_tokenizers import PreTokenizer

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUES = "##"
"""What a token begins with that continues a word."""
WORD_LENGTH = 100
"""Characters of the longest word. BERT's limit: the time that a word takes grows with the square of its length."""
AT_ONCE = 10_000
"""Words of a text that is made up of words."""


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
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.trainers import WordPieceTrainer

    pieces = count_pieces(texts, lowercase)
    # The library numbers the pieces "##a" … in the order of a randomly seeded hash map, and breaks ties between merges by
    # those numbers; it breaks ties between characters, too, by chance. Given both in order, it repeats itself.
    continuing = {character for piece in pieces for character in piece[1:]}
    room = (vocab_size - len(SPECIAL_TOKENS)) // 2
    alphabet = choose_alphabet(_count_characters(pieces), continuing, limit_alphabet, room)
    first = [*SPECIAL_TOKENS, *(CONTINUES + character for character in sorted(continuing.intersection(alphabet)))]
    tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    trainer = WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=first,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_spelled_out(pieces), trainer)
    by_id = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return tuple(token for token, _ in by_id)


def count_pieces(texts: Iterable[str], lowercase: bool) -> Counter[str]:
    """What `normalize` and `cut_into_words` make of the texts: each word, with its number.

    What stands between two spaces is cut on its own, and a space changes nothing in its neighbours: each such string is cut
    once, together with others that occur as often.
    """
    normalizer, cut = normalize(lowercase), cut_into_words(WORD_LENGTH)
    together: dict[int, list[str]] = {}
    for word, times in Counter(chain.from_iterable(text.split(" ") for text in texts)).items():
        together.setdefault(times, []).append(word)
    pieces: Counter[str] = Counter()
    for times, words in together.items():
        for start in range(0, len(words), AT_ONCE):
            text = normalizer.normalize_str(" ".join(words[start : start + AT_ONCE]))
            for piece, number in Counter(piece for piece, _ in cut.pre_tokenize_str(text)).items():
                pieces[piece] += times * number
    return pieces


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


def _count_characters(pieces: Mapping[str, int]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for piece, times in pieces.items():
        for character in piece:
            counts[character] += times
    return counts


def _spelled_out(pieces: Mapping[str, int]) -> Iterator[str]:
    """Texts in which each word stands as often as it was counted: the library takes no numbers."""
    for piece, times in pieces.items():
        for start in range(0, times, AT_ONCE):
            yield " ".join([piece] * min(AT_ONCE, times - start))
