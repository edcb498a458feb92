"""WordPiece: with a local BERT vocabulary, with one from the Hub, or trained on the corpus. Saved as a `vocab.txt`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from tlm.artifacts.fingerprint import file_digest
from tlm.data import tokenizer_files
from tlm.data.sources.values import not_utf8
from tlm.data.tokenizer import MAX_VOCABULARY, Vocabulary
from tlm.data.wordpiece_training import (
    CONTINUES,
    SPECIAL_TOKENS,
    WORD_LENGTH,
    cut_into_words,
    normalize,
    train_wordpiece,
)
from tlm.errors import UserError
from tlm.study.tokenizers import TokenizerConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer as FastTokenizer

    from tlm.data.ragged import Ragged

BERT_UNCASED = 30_522
"""Tokens of bert-base-uncased."""
VOCABULARY_FILE = "vocab.txt"


@dataclass(frozen=True)
class WordPiece:
    """BERT's tokenizer: text is cut at white space and punctuation, each word into the longest pieces of the vocabulary."""

    vocabulary: Vocabulary
    lowercase: bool = True
    word_length: int | None = None
    """Longer words are cut into words of this many characters; None: those of more than 100 are [UNK], as in BERT."""

    @cached_property
    def begins_word(self) -> NDArray[np.bool_]:
        import numpy as np

        return np.array([not token.startswith(CONTINUES) for token in self.vocabulary.tokens])

    def encode(self, texts: Sequence[str], max_length: int | None = None) -> Ragged:
        """The ids of each text, without special tokens, cut to `max_length` tokens if given.

        Most words of a text are in many others, and what stands between two spaces is cut on its own: each is encoded
        once, in all of the library's threads.
        """
        import numpy as np

        from tlm.data.ragged import Ragged

        words = [text.split(" ") for text in texts]
        number_of = {word: number for number, word in enumerate(dict.fromkeys(chain.from_iterable(words)))}
        encoded = self._fast.encode_batch_fast(list(number_of), add_special_tokens=False)
        pieces = Ragged.from_lists(encoding.ids for encoding in encoded)
        counts = [len(of_text) for of_text in words]
        numbers = np.fromiter(map(number_of.__getitem__, chain.from_iterable(words)), np.int64, sum(counts))
        strung = pieces.take(numbers)
        whole = Ragged(strung.ids, strung.offsets[np.cumsum([0, *counts])])
        return whole if max_length is None else whole.cut(max_length)

    def unknown_words(self, texts: Sequence[str]) -> Counter[str]:
        """Each word of the texts that becomes [UNK], with its number."""
        times = Counter(chain.from_iterable(text.split(" ") for text in texts))
        encoded = self._fast.encode_batch(list(times), add_special_tokens=False)
        unknown: Counter[str] = Counter()
        for (word, number), encoding in zip(times.items(), encoded, strict=True):
            for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
                if token == self.vocabulary.unk:
                    unknown[word[start:end]] += number
        return unknown

    def readable(self, ids: Sequence[int]) -> str:
        """As it is normalised: in lower case, if the tokenizer is."""
        special = set(self.vocabulary.special_ids)
        text: str = self._fast.decode([token for token in ids if token not in special], skip_special_tokens=False)
        return text

    def text_bytes(self, encoded: Ragged) -> int:
        """Bytes of UTF-8 of the texts that tokens stand for: as they are normalised, [UNK] counted as it is written."""
        texts = self._fast.decode_batch([encoded[i].tolist() for i in range(len(encoded))], skip_special_tokens=False)
        return sum(len(text.encode("utf-8")) for text in texts)

    def save(self, folder: Path) -> dict[str, Any]:
        """vocab.txt and, for other programs, tokenizer.json and tokenizer_config.json."""
        write_vocabulary(self.vocabulary.tokens, folder / VOCABULARY_FILE)
        tokenizer_files.write(self._fast, self.vocabulary, folder, do_lower_case=self.lowercase)
        return {
            "vocab_size": len(self.vocabulary),
            "characters": sum(len(token.removeprefix(CONTINUES)) == 1 for token in self.vocabulary.tokens),
            "lowercase": self.lowercase,
            "word_length": self.word_length,
        }

    @cached_property
    def _fast(self) -> FastTokenizer:
        from tokenizers import Tokenizer, decoders, models

        ids = {token: index for index, token in enumerate(self.vocabulary.tokens)}
        fast = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
        fast.normalizer = normalize(self.lowercase)
        fast.pre_tokenizer = cut_into_words(self.word_length)
        fast.decoder = decoders.WordPiece()
        assert fast.get_vocab_size() == len(self.vocabulary), "the tokenizer dropped tokens of its vocabulary"
        return fast


# --- where it comes from ---


class WordPieceConfig(TokenizerConfig):
    """What the kinds of WordPiece have in common."""

    special_tokens: ClassVar[frozenset[str]] = frozenset({"pad", "unk", "cls", "sep", "mask"})

    @classmethod
    def load(cls, path_of: Callable[[str], Path], facts: Mapping[str, Any]) -> WordPiece:
        vocabulary = read_vocabulary(path_of(VOCABULARY_FILE))
        return WordPiece(vocabulary, bool(facts["lowercase"]), facts.get("word_length"))


class VocabularyTokenizer(WordPieceConfig):
    """WordPiece with a local BERT vocabulary file (one token a line) under the data root."""

    kind: Literal["vocabulary"] = "vocabulary"
    path: str = "bert-base-uncased/vocab.txt"
    lowercase: bool = True

    def content(self, data_root: str) -> dict[str, Any]:
        self._read(data_root)
        return {"kind": self.kind, "sha256": file_digest(self._file(data_root)), "lowercase": self.lowercase}

    def vocabulary_size(self, data_root: str) -> tuple[int, str]:
        return len(self._read(data_root)), ""

    def make(self, texts: Callable[[], Iterable[str]], data_root: str) -> WordPiece:
        return WordPiece(self._read(data_root), self.lowercase)

    def _file(self, data_root: str) -> Path:
        from tlm.data.sources.base import confine

        return confine(data_root, self.path)

    def _read(self, data_root: str) -> Vocabulary:
        return read_vocabulary(self._file(data_root), self.path)


class HubTokenizer(WordPieceConfig):
    """WordPiece with the `vocab.txt` of a Hugging Face Hub model, at a pinned revision."""

    kind: Literal["hub"] = "hub"
    repo: str = "google-bert/bert-base-uncased"
    revision: str = "86b5e0934494bd15c9632b12f734a8a67f723594"
    lowercase: bool = True

    def check_available(self) -> None:
        """Fetch the vocabulary (200 kB, into the Hub's own cache)."""
        self._read()

    def vocabulary_size(self, data_root: str) -> tuple[int, str]:
        known = self.repo.endswith("bert-base-uncased")
        assumed = f"vocabulary of {self.repo} not known yet: assumed {BERT_UNCASED:,}, as bert-base-uncased has"
        return BERT_UNCASED, "" if known else assumed

    def make(self, texts: Callable[[], Iterable[str]], data_root: str) -> WordPiece:
        return WordPiece(self._read(), self.lowercase)

    def _read(self) -> Vocabulary:
        return read_vocabulary(fetch_hub_vocabulary(self), f"{self.repo}/{VOCABULARY_FILE}")


class TrainedTokenizer(WordPieceConfig):
    """WordPiece trained on the text of the study's pre-training source.

    A word of more than 100 characters (text without spaces) is cut, in training and in use; in BERT it is one [UNK].
    """

    kind: Literal["wordpiece"] = "wordpiece"
    vocab_size: Annotated[int, Field(ge=256, le=MAX_VOCABULARY)] = 8_192
    """Tokens, at most."""
    limit_alphabet: Annotated[int, Field(ge=1, le=MAX_VOCABULARY)] = 400
    """Different characters, the most frequent ones: with their forms inside a word, half of `vocab_size` at most."""
    lowercase: bool = True
    trained: ClassVar[bool] = True

    def vocabulary_size(self, data_root: str) -> tuple[int, str]:
        return self.vocab_size, f"vocabulary not trained yet: assumed {self.vocab_size:,}, the most it may have"

    def make(self, texts: Callable[[], Iterable[str]], data_root: str) -> WordPiece:
        tokens = train_wordpiece(
            texts(), vocab_size=self.vocab_size, limit_alphabet=self.limit_alphabet, lowercase=self.lowercase
        )
        return WordPiece(bert_vocabulary(tokens), self.lowercase, WORD_LENGTH)


# --- vocabularies ---


def bert_vocabulary(tokens: tuple[str, ...]) -> Vocabulary:
    """Tokens by id, BERT's special ones among them."""
    return Vocabulary(tokens, *map(tokens.index, SPECIAL_TOKENS))


def read_vocabulary(path: Path, shown_as: str | None = None) -> Vocabulary:
    """Read a `vocab.txt`: one token a line, line number = id.

    Raises:
        UserError: if the file is missing, is not UTF-8 text, repeats a token, lacks a special token or holds more tokens
            than uint16 can number.
    """
    shown = shown_as or str(path)
    try:
        tokens = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise UserError(
            f"{shown}: no such vocabulary file.", "Set TLM_DATA_ROOT, or use tokenizer kind: hub."
        ) from None
    except UnicodeDecodeError:
        raise not_utf8(path, shown) from None
    except OSError as error:
        raise UserError(
            f"{shown} is not a vocabulary file ({error}).", "Give a BERT vocab.txt, one token a line."
        ) from None
    tokens = [token.rstrip("\r") for token in tokens]
    if tokens and not tokens[-1]:
        tokens.pop()
    missing = [token for token in SPECIAL_TOKENS if token not in tokens]
    if missing:
        raise UserError(
            f"{shown} is not a BERT vocabulary: it lacks {missing}.", "Give a BERT vocab.txt, one token a line."
        )
    if len(set(tokens)) != len(tokens):
        twice = next(token for token in tokens if tokens.count(token) > 1)
        raise UserError(
            f"{shown} is not a vocabulary: {twice!r} stands in it more than once.", "Remove the repetition."
        )
    if len(tokens) > MAX_VOCABULARY:
        raise UserError(f"{shown} has {len(tokens)} tokens, more than {MAX_VOCABULARY}.", "Use a smaller vocabulary.")
    return bert_vocabulary(tuple(tokens))


def write_vocabulary(tokens: Iterable[str], path: Path) -> None:
    path.write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")


def fetch_hub_vocabulary(config: HubTokenizer) -> Path:
    """Download (or find in the local Hub cache) the pinned `vocab.txt`. Raises UserError if the Hub cannot be reached."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    from tlm.data.sources.hub_access import ensure_reachable

    ensure_reachable(config.repo, config.revision, "model")
    try:
        return Path(hf_hub_download(config.repo, VOCABULARY_FILE, revision=config.revision))
    except (EntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"Cannot get vocab.txt of {config.repo} at {config.revision}: {reason}",
            "Unset HF_HUB_OFFLINE once, or use tokenizer kind: vocabulary or wordpiece.",
        ) from error
