"""Which tokenizer a study uses, and where it comes from. A kind of tokenizer is a class, in the module of what it makes.

To add one, write a module like `tlm.data.wordpiece` and name it in `own` below, or in TLM_EXTENSIONS.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from tlm.study.base import Registered


class TokenizerConfig(
    Registered,
    noun="tokenizer",
    own={
        **dict.fromkeys(("vocabulary", "hub", "wordpiece"), "tlm.data.wordpiece"),
        "bytes": "tlm.data.byte_patches",
    },
):
    """How a tokenizer is made, and read again from what it was saved as. Both give a `tlm.data.tokenizer.Tokenizer`."""

    trained: ClassVar[bool] = False
    """Whether it is trained on the text of the study's pre-training source, which is then the stage's input."""
    special_tokens: ClassVar[frozenset[str]] = frozenset()
    """Those of pad, unk, cls, sep and mask that its vocabulary has."""
    units: ClassVar[Literal["subword", "byte"]] = "subword"
    """What its ids are: a model reads those of its family."""
    ngram: ClassVar[int] = 13
    """So many ids in a row are hardly ever the same in two texts by chance (13 words: arXiv 2005.14165, appendix C)."""

    def content(self, data_root: str) -> dict[str, Any]:
        """What defines the tokenizer: `kind`, and digests instead of paths under `data_root`.

        Raises:
            UserError: if files that it is made from are missing or damaged.
        """
        return self.identity()

    def check_available(self) -> None:
        """Raise UserError if something that is to be downloaded for it cannot be."""

    @abstractmethod
    def vocabulary_size(self, data_root: str) -> tuple[int, str]:
        """Its number of tokens, as far as it is known before the tokenizer is made, and what was assumed ("": nothing)."""

    @abstractmethod
    def make(self, texts: Callable[[], Iterable[str]], data_root: str) -> Any:
        """The tokenizer. `texts` reads the pre-training source; it is there only for one that is `trained`."""

    @classmethod
    @abstractmethod
    def load(cls, path_of: Callable[[str], Path], facts: Mapping[str, Any]) -> Any:
        """A saved tokenizer: `path_of` finds the files that it wrote by their names, `facts` are those it returned."""
