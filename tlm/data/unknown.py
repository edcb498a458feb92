"""How much of a text a tokenizer does not know: the words that become [UNK], and the letters in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from tlm.errors import UserError

if TYPE_CHECKING:
    from tlm.data.ragged import Ragged
    from tlm.data.tokenizer import Tokenizer

MOST_UNKNOWN = 0.1
"""Share of a source's letters that may be unknown. What the named studies read has 0.7 % at most, text in a script that the
vocabulary was not made for nearly all. In between a model sees holes, and overlap, which leaves [UNK] out, looks whole."""
EXAMPLES = 5
"""Unknown words that are kept to be shown, the most frequent ones."""
LONGEST_EXAMPLE = 20
"""Characters."""


@runtime_checkable
class NamesUnknown(Protocol):
    """A tokenizer whose words are not just what stands between white space says itself which of them become [UNK]."""

    def unknown_words(self, texts: Sequence[str]) -> Counter[str]:
        """Each word of the texts that becomes one [UNK], with its number."""


@dataclass
class Known:
    """Counts over the texts of a source; `add` as they are tokenised. Letters are all characters but white space."""

    words: int = 0
    letters: int = 0
    without_token: int = 0
    """Texts."""
    unknown: Counter[str] = field(default_factory=Counter)

    def add(self, tokenizer: Tokenizer, texts: Sequence[str], encoded: Ragged) -> None:
        """Count texts and their ids, which are not cut."""
        lengths = encoded.lengths
        begins = tokenizer.begins_word[encoded.ids]
        begins[encoded.offsets[:-1][lengths > 0]] = True
        self.words += int(begins.sum())
        self.letters += sum(len(word) for text in texts for word in text.split())
        self.without_token += int((lengths == 0).sum())
        self.unknown.update(unknown_words(tokenizer, texts, encoded))

    @property
    def unknown_letters(self) -> int:
        return sum(len(word) * times for word, times in self.unknown.items())

    def facts(self) -> dict[str, Any]:
        """For the record: the counts, and the most frequent unknown words with their numbers."""
        return {
            "words": self.words,
            "unknown_words": self.unknown.total(),
            "letters": self.letters,
            "unknown_letters": self.unknown_letters,
            "without_token": self.without_token,
            "unknown_most": [[shortened(word), times] for word, times in self.unknown.most_common(EXAMPLES)],
        }


def unknown_words(tokenizer: Tokenizer, texts: Sequence[str], encoded: Ragged) -> Counter[str]:
    """The words that become [UNK], with their numbers: as the tokenizer cuts them, if it says so, else at white space."""
    import numpy as np

    unk = tokenizer.vocabulary.special.get("unk")
    if unk is None:
        return Counter()
    concerned = [texts[row] for row in np.unique(encoded.sequence_of[encoded.ids == unk])]
    if isinstance(tokenizer, NamesUnknown):
        return tokenizer.unknown_words(concerned)
    times = Counter(word for text in concerned for word in text.split())
    words = list(times)
    alone = tokenizer.encode(words)
    return Counter({words[row]: times[words[row]] for row in np.unique(alone.sequence_of[alone.ids == unk])})


def say_unknown(facts: dict[str, Any]) -> str:
    """What is unknown, in words: "1.2 % of the words and 0.3 % of the letters are unknown to the tokenizer, …"."""
    if not facts["unknown_words"]:
        return f"all {facts['words']:,} words are known to the tokenizer"
    words, letters = (facts[f"unknown_{name}"] / max(1, facts[name]) for name in ("words", "letters"))
    most = ", ".join(f"{word!r} ({times:,})" for word, times in facts["unknown_most"])
    return (
        f"{percent(words)} of the words and {percent(letters)} of the letters are unknown to the tokenizer"
        f"{f', most often {most}' if most else ''}"
    )


def check_known(facts: dict[str, Any], source: str, *, trained: bool) -> None:
    """Raise UserError if more of a source's letters is unknown than `MOST_UNKNOWN`."""
    if facts["unknown_letters"] <= MOST_UNKNOWN * facts["letters"]:
        return
    remedy = (
        "Raise the tokenizer's limit_alphabet and vocab_size, or train it on text in the same script."
        if trained
        else "Use a vocabulary of that language, or train one (tokenizer kind: wordpiece)."
    )
    raise UserError(f"{source}: {say_unknown(facts)}; at most {percent(MOST_UNKNOWN)} of the letters may be.", remedy)


def percent(share: float) -> str:
    """A share as a person reads it: never 0 for what is not."""
    return "0 %" if share == 0 else "less than 0.1 %" if share < 0.001 else f"{100 * share:.1f} %".replace(".0 %", " %")


def shortened(word: str) -> str:
    return word if len(word) <= LONGEST_EXAMPLE else word[: LONGEST_EXAMPLE - 1] + "…"
