"""The words of claims that a reader who was not there does not know: how sets were treated, how models were compressed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tlm.report.formatting import escape_markdown
from tlm.study.compression import Compression
from tlm.study.config import StudyConfig
from tlm.study.treatments import MissingTokens, Sampled, Shuffled

MISSING, CHOSEN = "Missing tokens are made so in a copy of the pre-training set", "Paragraphs are chosen for a task"
SHUFFLED, COMPRESSED = "Words are shuffled", "Models are compressed after fine-tuning"
MEANINGS = {
    MISSING: {
        "unk": "every occurrence becomes [UNK], the token for what is unknown",
        "delete": "every occurrence is taken out",
        "drop": "each paragraph that holds one gives way to another paragraph that holds none",
        "random": "tokens of the task drawn at random",
        "most_frequent": "those that the task has most often",
        "rarest": "those that it has least often",
        "stratified": "some from every range of frequency",
    },
    CHOSEN: {
        "coverage": "so that they hold as many of the task's distinct tokens as can be",
        "weighted_coverage": "likewise, where a token counts as often as the task has it",
        "bm25": "those that a search engine's score finds most like the task's texts",
        "least_overlap": "those that hold fewest of the task's tokens",
        "irrelevant": "a core that holds the task's tokens, and beside it a chosen share of tokens that it never uses",
    },
    SHUFFLED: {
        "sentence": "within each sentence",
        "corpus": "over the whole pre-training set",
    },
    COMPRESSED: {
        "int8": "each weight is stored in one byte",
        "magnitude": "the smallest weights become zero",
        "wanda": "those weights become zero whose products with what comes in are smallest",
        "neurons": "whole neurons of the feed-forward networks are taken out",
        "heads": "whole attention heads are taken out",
    },
}
"""What is done → its words, and what each means."""


def explained(studies: Iterable[StudyConfig]) -> Iterator[str]:
    """A sentence in Markdown for each thing that is done in one of these studies, with the words that they use for it."""
    used = {pair for study in studies for pair in _used(study)}
    for what, meanings in MEANINGS.items():
        if said := [
            f"*{escape_markdown(word)}*: {escape_markdown(meaning)}"
            for word, meaning in meanings.items()
            if (what, word) in used
        ]:
            yield f"{what}. {'; '.join(said)}."


def _used(study: StudyConfig) -> Iterator[tuple[str, Any]]:
    for each in study.treatments:
        if isinstance(each, MissingTokens):
            yield from ((MISSING, each.removal), (MISSING, each.selection))
        elif isinstance(each, Sampled):
            yield CHOSEN, each.sampler
        elif isinstance(each, Shuffled):
            yield SHUFFLED, each.scope
    yield from ((COMPRESSED, each.method) for each in study.evaluations if isinstance(each, Compression))
