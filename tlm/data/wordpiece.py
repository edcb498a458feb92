"""WordPiece: with a local BERT vocabulary, with one from the Hub, or trained on the corpus. Saved as a `vocab.txt`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from tlm.artifacts.fingerprint import file_digest
from tlm.data.tokenizer import MAX_VOCABULARY, Vocabulary
from tlm.errors import UserError
from tlm.study.tokenizers import TokenizerConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer as FastTokenizer

    from tlm.data.ragged import Ragged

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUES = "##"
"""What a token begins with that continues a word."""
BERT_UNCASED = 30_522
"""Tokens of bert-base-uncased."""
VOCABULARY_FILE = "vocab.txt"


@dataclass(frozen=True)
class WordPiece:
    """BERT's tokenizer: text is cut at white space and punctuation, each word into the longest pieces of the vocabulary."""

    vocabulary: Vocabulary
    lowercase: bool = True

    @cached_property
    def begins_word(self) -> NDArray[np.bool_]:
        import numpy as np

        return np.array([not token.startswith(CONTINUES) for token in self.vocabulary.tokens])

    def encode(self, texts: Sequence[str], max_length: int | None = None) -> Ragged:
        """The ids of each text, without special tokens, cut to `max_length` tokens if given."""
        from tlm.data.ragged import Ragged

        if max_length is None:
            self._fast.no_truncation()
        else:
            self._fast.enable_truncation(max_length)
        return Ragged.from_lists(e.ids for e in self._fast.encode_batch_fast(texts, add_special_tokens=False))

    def save(self, folder: Path) -> dict[str, Any]:
        """vocab.txt and, for other programs, tokenizer.json."""
        write_vocabulary(self.vocabulary.tokens, folder / VOCABULARY_FILE)
        self._fast.no_truncation()
        self._fast.save(str(folder / "tokenizer.json"))
        return {"vocab_size": len(self.vocabulary), "lowercase": self.lowercase}

    @cached_property
    def _fast(self) -> FastTokenizer:
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

        ids = {token: index for index, token in enumerate(self.vocabulary.tokens)}
        fast = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
        fast.normalizer = normalizers.BertNormalizer(lowercase=self.lowercase)
        fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        fast.decoder = decoders.WordPiece()
        assert fast.get_vocab_size() == len(self.vocabulary), "the tokenizer dropped tokens of its vocabulary"
        return fast


# --- where it comes from ---


class WordPieceConfig(TokenizerConfig):
    """What the kinds of WordPiece have in common."""

    special_tokens: ClassVar[frozenset[str]] = frozenset({"pad", "unk", "cls", "sep", "mask"})

    @classmethod
    def load(cls, path_of: Callable[[str], Path], facts: Mapping[str, Any]) -> WordPiece:
        return WordPiece(read_vocabulary(path_of(VOCABULARY_FILE)), lowercase=bool(facts["lowercase"]))


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
    """WordPiece trained on the text of the study's pre-training source."""

    kind: Literal["wordpiece"] = "wordpiece"
    vocab_size: Annotated[int, Field(ge=256, le=MAX_VOCABULARY)] = 8_192
    lowercase: bool = True
    trained: ClassVar[bool] = True

    def vocabulary_size(self, data_root: str) -> tuple[int, str]:
        return self.vocab_size, f"vocabulary not trained yet: assumed {self.vocab_size:,}, the most it may have"

    def make(self, texts: Callable[[], Iterable[str]], data_root: str) -> WordPiece:
        return WordPiece(bert_vocabulary(train_wordpiece(texts(), self)), self.lowercase)


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
    except (UnicodeDecodeError, OSError) as error:
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


# --- training ---


def train_wordpiece(texts: Iterable[str], config: TrainedTokenizer) -> tuple[str, ...]:
    """Train WordPiece on `texts` and return the vocabulary's tokens by id; the same texts give the same tokens."""
    texts = list(texts)
    # The library numbers the pieces "##a" … in the order of a randomly seeded hash map, and breaks ties between merges by
    # those numbers. A first pass without merges finds them; given in sorted order, the second repeats itself.
    characters = _train(texts, config, SPECIAL_TOKENS, vocab_size=0)
    continuing = sorted(token for token in characters if token.startswith(CONTINUES) and len(token) == 3)
    return _train(texts, config, (*SPECIAL_TOKENS, *continuing), vocab_size=config.vocab_size)


def _train(texts: list[str], config: TrainedTokenizer, first: tuple[str, ...], vocab_size: int) -> tuple[str, ...]:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=config.lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=list(first), show_progress=False, min_frequency=2
    )
    tokenizer.train_from_iterator(texts, trainer)
    by_id = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return tuple(token for token, _ in by_id)
