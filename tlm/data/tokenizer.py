"""What the pipeline asks of a tokenizer, whatever its kind: ids for texts, how many there are, which ones are special."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from tlm.artifacts.store import Artifact
from tlm.errors import UserError
from tlm.study.tokenizers import TokenizerConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tlm.data.ragged import Ragged, Rows

MAX_VOCABULARY = 65_536
"""Token ids are stored as uint16."""


class Vocabulary:
    """The tokens of a tokenizer by id, as tables show them, and the ids of its special tokens.

    `pad`, `unk`, `cls`, `sep` and `mask` are those ids; to ask for one that the tokenizer does not have raises UserError.

    Args:
        pad, unk, cls, sep, mask: None if there is no such token.
    """

    def __init__(
        self,
        tokens: tuple[str, ...],
        pad: int | None = None,
        unk: int | None = None,
        cls: int | None = None,
        sep: int | None = None,
        mask: int | None = None,
    ) -> None:
        self.tokens = tokens
        named = {"pad": pad, "unk": unk, "cls": cls, "sep": sep, "mask": mask}
        self.special = {name: token for name, token in named.items() if token is not None}
        """Name → id of those there are."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def special_ids(self) -> tuple[int, ...]:
        return tuple(self.special.values())

    @property
    def pad(self) -> int:
        return self._special("pad")

    @property
    def begin(self) -> int:
        """What stands where a text begins: [CLS], or [PAD] if nothing is read there."""
        return self.cls if "cls" in self.special else self.pad

    @property
    def unk(self) -> int:
        return self._special("unk")

    @property
    def cls(self) -> int:
        return self._special("cls")

    @property
    def sep(self) -> int:
        return self._special("sep")

    @property
    def mask(self) -> int:
        return self._special("mask")

    def _special(self, name: str) -> int:
        if name not in self.special:
            raise UserError(
                f"The tokenizer has no [{name.upper()}] token, and one is needed.", "Use a tokenizer that has one."
            )
        return self.special[name]


class Tokenizer(Protocol):
    """Text to token ids. A `TokenizerConfig` of its kind makes it and loads it."""

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def begins_word(self) -> NDArray[np.bool_]:
        """(len(vocabulary),): False for a token that, wherever it stands after another, goes on with that one's word."""

    def encode(self, texts: Sequence[str], max_length: int | None = None) -> Ragged:
        """The ids of each text, without special tokens, cut to `max_length` tokens if given."""

    def save(self, folder: Path) -> dict[str, Any]:
        """Write its files, if it has any, and return facts for the record: `vocab_size`, and what else loading needs."""


@runtime_checkable
class CutsItself(Protocol):
    """A tokenizer whose texts are not to be cut after any token."""

    def cut(self, encoded: Ragged, length: int) -> Ragged:
        """The beginning of each text, of `length` tokens at most."""

    def begin(self, encoded: Ragged, least: Rows, most: Rows) -> Rows:
        """Of each text the first place from `least` up to `most` where it may begin; `least` if there is none."""


@runtime_checkable
class KnowsBytes(Protocol):
    """A tokenizer that can say how long the text is that its tokens stand for."""

    def text_bytes(self, encoded: Ragged) -> int:
        """Bytes of UTF-8 of all texts."""


@runtime_checkable
class Readable(Protocol):
    """A tokenizer that can show what a model wrote."""

    def readable(self, ids: Sequence[int]) -> str:
        """Text for people. Ids that no text has are shown too, by U+FFFD if need be; special tokens are left out."""


def cut(tokenizer: Tokenizer, encoded: Ragged, length: int) -> Ragged:
    """The beginning of each text, of `length` tokens at most."""
    return tokenizer.cut(encoded, length) if isinstance(tokenizer, CutsItself) else encoded.cut(length)


def begin(tokenizer: Tokenizer, encoded: Ragged, least: Rows, most: Rows) -> Rows:
    """Where each text begins that is to lose so many tokens at its beginning, and may lose no more than `most`."""
    return tokenizer.begin(encoded, least, most) if isinstance(tokenizer, CutsItself) else least


def load_tokenizer(artifact: Artifact) -> Tokenizer:
    """The tokenizer of an artifact of the stage `tokenizer`.

    Raises:
        UserError: if this installation does not know its kind.
    """
    record = artifact.record
    try:
        kind: type[TokenizerConfig] = TokenizerConfig.registry[record.config["kind"]]
    except ValueError as error:
        raise UserError(f"{record.ref}: {error}.", "Name the module that adds it in TLM_EXTENSIONS.") from None
    tokenizer: Tokenizer = kind.load(artifact.path, record.facts)
    return tokenizer
