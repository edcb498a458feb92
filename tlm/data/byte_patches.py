"""Text as bytes of UTF-8, cut into patches: nothing is trained, and nothing of a text is lost.

A patch is at most `patch_bytes` - 1 bytes and an end, EOP, and is pooled into one vector by a model of kind `bytes`
(arXiv 2405.14159). An end alone is where a text ends: no patch of a text is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from tlm.data.sources.values import WHOLE_CHARACTERS, half_character
from tlm.data.tokenizer import Vocabulary
from tlm.errors import UserError
from tlm.study.tokenizers import TokenizerConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tlm.data.ragged import Ids, Ragged, Rows

EOP, PAD = 256, 257
"""Ids beyond the bytes: the end of a patch, and what is no part of a text."""
SIZE = 258
WHITE = tuple(b" \t\n\v\f\r")
"""White space of ASCII."""
Patching = Literal["words", "stride", "spacebyte"]


@dataclass(frozen=True)
class BytePatches:
    """The tokenizer: ids 0 to 255 are bytes. `patch_bytes`: ids of a patch at most, its end counted."""

    patch_bytes: int
    patching: Patching = "words"
    vocabulary: ClassVar[Vocabulary] = Vocabulary(
        (*(f"<{byte:02x}>" for byte in range(256)), "[EOP]", "[PAD]"), PAD, sep=EOP
    )

    @cached_property
    def begins_word(self) -> NDArray[np.bool_]:
        """White space begins the word that it stands before."""
        import numpy as np

        return np.isin(np.arange(SIZE), WHITE)

    def encode(self, texts: Sequence[str], max_length: int | None = None) -> Ragged:
        """The bytes of each text with an end after each patch, cut to whole patches of `max_length` ids in all if given.

        Raises UserError for a text with half a character, which has no UTF-8.
        """
        import numpy as np

        from tlm.data.ragged import Ragged

        raw = [_utf8(text, number) for number, text in enumerate(texts)]
        data = np.frombuffer(b"".join(raw), dtype=np.uint8)
        ends = np.cumsum([0, *map(len, raw)], dtype=np.int64)
        begins = self._begins(data, ends)
        # Byte i stands behind the ends of all patches before its own.
        ids = np.full(len(data) + int(begins.sum()), EOP, dtype=np.uint16)
        patches = np.concatenate([[0], np.cumsum(begins)])
        ids[np.arange(len(data)) + patches[1:] - 1] = data
        whole = Ragged(ids, ends + patches[ends])
        return whole if max_length is None else self.cut(whole, max_length)

    def cut(self, encoded: Ragged, length: int) -> Ragged:
        """As many whole patches from the beginning of each text as have `length` ids at most.

        Of a first patch that is longer by itself, its beginning.
        """
        import numpy as np

        short = encoded.cut(length)
        place = np.arange(len(short.ids)) - np.repeat(short.offsets[:-1], short.lengths)
        last = np.zeros(len(short), dtype=np.int64)
        np.maximum.at(last, short.sequence_of, np.where(short.ids == EOP, place + 1, 0))
        return short.keep(place < np.repeat(np.where(last, last, short.lengths), short.lengths))

    def begin(self, encoded: Ragged, least: Rows, most: Rows) -> Rows:
        """Of each text the first patch that begins from `least` up to `most`; `least` if none does."""
        import numpy as np

        firsts = np.append(np.flatnonzero(encoded.ids == EOP) + 1, len(encoded.ids))
        wanted = encoded.offsets[:-1] + np.maximum(least, 0)
        found = firsts[np.searchsorted(firsts, wanted)] - encoded.offsets[:-1]
        return np.where((least > 0) & (found <= most), found, least)

    def decode(self, ids: Ids) -> str:
        """The text that `encode` made them from.

        Raises UserError, naming the id's place, for ids that it makes of no text: padding, an end without a patch before
        it, a patch that is too long or has no end, bytes that are not UTF-8.
        """
        import numpy as np

        ids = np.asarray(ids, dtype=np.int64)
        ends = np.flatnonzero(ids == EOP)
        patches = np.diff(ends, prepend=-1)
        beyond = np.flatnonzero((ids < 0) | (ids > EOP))
        wrong = np.flatnonzero((patches < 2) | (patches > self.patch_bytes))
        if len(beyond):
            raise _no_text(f"id {int(ids[beyond[0]])} at {int(beyond[0])} is neither a byte nor the end of a patch")
        if len(wrong):
            size, place = int(patches[wrong[0]]) - 1, int(ends[wrong[0]])
            raise _no_text(f"the patch that ends at {place} has {size} bytes, not 1 to {self.patch_bytes - 1}")
        if len(ids) and ids[-1] != EOP:
            raise _no_text("the last patch has no end")
        raw = ids[ids != EOP].astype(np.uint8).tobytes()
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise _no_text(f"not UTF-8 (byte {error.start})") from None

    def readable(self, ids: Sequence[int]) -> str:
        """What is not UTF-8 is shown as U+FFFD."""
        return bytes(token for token in ids if token < EOP).decode("utf-8", errors="replace")

    def text_bytes(self, encoded: Ragged) -> int:
        """Bytes of UTF-8 of the text that ids stand for."""
        return int((encoded.ids < EOP).sum())

    def save(self, folder: Path) -> dict[str, Any]:
        return {"vocab_size": SIZE, "patch_bytes": self.patch_bytes, "patching": self.patching}

    def _begins(self, data: NDArray[np.uint8], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(bytes,): whether a patch begins there. `ends`: where texts end, 0 first."""
        import numpy as np

        begins = np.zeros(len(data), dtype=bool)
        if self.patching != "stride":
            apart = np.isin(data, WHITE) if self.patching == "words" else _spacelike(data)
            begins[1:] = apart[1:] & ~apart[:-1]
        starts = ends[:-1][np.diff(ends) > 0]
        begins[starts] = True
        firsts = np.flatnonzero(begins)
        place = np.arange(len(data)) - np.repeat(firsts, np.diff(firsts, append=len(data)))
        return place % (self.patch_bytes - 1) == 0


def _spacelike(data: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """SpaceByte's (Slagle 2024, arXiv 2404.14408): all but letters and digits of ASCII, and what continues a character."""
    import numpy as np

    letters = np.isin(data | 0x20, np.arange(ord("a"), ord("z") + 1)) & (data < 128)
    digits = (data >= ord("0")) & (data <= ord("9"))
    return ~(letters | digits | ((data >= 0x80) & (data < 0xC0)))


def _utf8(text: str, number: int) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = half_character(text)
        raise UserError(
            f"Text {number}, character {error.start}: half a character ({half}), which has no UTF-8.", WHOLE_CHARACTERS
        ) from None


def _no_text(problem: str) -> UserError:
    return UserError(f"These ids are no text: {problem}.", "Decode what this tokenizer encoded.")


class BytesTokenizer(TokenizerConfig):
    """Bytes in patches, for models of kind `bytes`."""

    kind: Literal["bytes"] = "bytes"
    patch_bytes: Annotated[int, Field(ge=2, le=256)] = Field(
        16, description="ids of a patch at most: its bytes and its end; that of the models' `byte.patch_bytes`"
    )
    patching: Patching = Field(
        "words",
        description="where a patch begins, beside every patch_bytes - 1 bytes: words: at white space after what is none; "
        "stride: nowhere else; spacebyte: at what is neither letter nor digit, after what is",
    )
    special_tokens: ClassVar[frozenset[str]] = frozenset({"pad", "sep"})
    units: ClassVar[Literal["subword", "byte"]] = "byte"
    ngram: ClassVar[int] = 80

    def vocabulary_size(self, data_root: str) -> tuple[int, str]:
        return SIZE, ""

    def make(self, texts: Callable[[], Iterable[str]], data_root: str) -> BytePatches:
        return BytePatches(self.patch_bytes, self.patching)

    @classmethod
    def load(cls, path_of: Callable[[str], Path], facts: Mapping[str, Any]) -> BytePatches:
        return BytePatches(int(facts["patch_bytes"]), facts["patching"])
