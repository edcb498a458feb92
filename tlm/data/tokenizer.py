"""WordPiece: from a local BERT vocabulary, from the Hub, or trained on the corpus. One representation: a `vocab.txt`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlm.artifacts.fingerprint import file_digest
from tlm.errors import UserError
from tlm.study.config import HubTokenizer, TrainedTokenizer, VocabularyTokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from tlm.data.ragged import Ragged

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MAX_VOCABULARY = 65_536
"""Token ids are stored as uint16."""


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id, and the ids of the special ones."""

    tokens: tuple[str, ...]
    pad: int
    unk: int
    cls: int
    sep: int
    mask: int

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def special_ids(self) -> tuple[int, ...]:
        return (self.pad, self.unk, self.cls, self.sep, self.mask)


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
    ids = [tokens.index(token) for token in SPECIAL_TOKENS]
    return Vocabulary(tuple(tokens), *ids)


def write_vocabulary(tokens: Iterable[str], path: Path) -> None:
    path.write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")


def load_tokenizer(vocabulary: Vocabulary, *, lowercase: bool, max_length: int | None = None) -> Tokenizer:
    """A BERT WordPiece tokenizer that adds no special tokens, and truncates to `max_length` tokens if given."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordPiece({t: i for i, t in enumerate(vocabulary.tokens)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    if max_length is not None:
        tokenizer.enable_truncation(max_length)
    assert tokenizer.get_vocab_size() == len(vocabulary), "the tokenizer dropped tokens of its vocabulary"
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> Ragged:
    """The ids of each text, without special tokens."""
    from tlm.data.ragged import Ragged

    return Ragged.from_lists(e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False))


def train_wordpiece(texts: Iterable[str], config: TrainedTokenizer) -> tuple[str, ...]:
    """Train WordPiece on `texts` and return the vocabulary's tokens by id; the same texts give the same tokens."""
    texts = list(texts)
    # The library numbers the pieces "##a" … in the order of a randomly seeded hash map, and breaks ties between merges by
    # those numbers. A first pass without merges finds them; given in sorted order, the second repeats itself.
    characters = _train(texts, config, SPECIAL_TOKENS, vocab_size=0)
    continuing = sorted(token for token in characters if token.startswith("##") and len(token) == 3)
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


def tokenizer_identity(config: VocabularyTokenizer | HubTokenizer | TrainedTokenizer, data_root: str) -> dict[str, Any]:
    """What makes a tokenizer: the digest of its vocabulary, or the pinned repository, or how it is trained."""
    if isinstance(config, VocabularyTokenizer):
        path = vocabulary_path(config, data_root)
        read_vocabulary(path, config.path)
        return {"kind": config.kind, "sha256": file_digest(path), "lowercase": config.lowercase}
    return config.model_dump(mode="json")


def vocabulary_path(config: VocabularyTokenizer, data_root: str) -> Path:
    """The file under the data root. Raises UserError if the path leads out of it."""
    from tlm.data.sources.base import confine

    return confine(data_root, config.path)


def fetch_hub_vocabulary(config: HubTokenizer) -> Path:
    """Download (or find in the local Hub cache) the pinned `vocab.txt`. Raises UserError if the Hub cannot be reached."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    from tlm.data.sources.hub_access import ensure_reachable

    ensure_reachable(config.repo, config.revision, "model")
    try:
        return Path(hf_hub_download(config.repo, "vocab.txt", revision=config.revision))
    except (EntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"Cannot get vocab.txt of {config.repo} at {config.revision}: {reason}",
            "Unset HF_HUB_OFFLINE once, or use tokenizer kind: vocabulary or wordpiece.",
        ) from error
