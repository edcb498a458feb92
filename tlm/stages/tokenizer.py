"""Stage `tokenizer`: what turns text into token ids, given or trained on the study's pre-training source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tlm.errors import UserError
from tlm.stages.base import Aside, Count, Flat, Stage
from tlm.stages.source import Source
from tlm.study.tokenizers import TokenizerConfig

if TYPE_CHECKING:
    from tlm.artifacts.record import Record
    from tlm.stages.job import Facts, Job


class Tokenizer(Stage, name="tokenizer", version="2"):
    """The files of a tokenizer of its kind: of WordPiece vocab.txt and, for transformers, tokenizer.json and settings."""

    content: Flat[dict[str, Any]]
    """What defines the tokenizer (`TokenizerConfig.content`)."""
    tokenizer: Aside[TokenizerConfig]
    source: Source | None = None
    """The text that it is trained on, if it is."""

    retries = 2
    told = {"vocab_size": Count}

    @property
    def slug(self) -> str:
        return self.tokenizer.kind

    def run(self, job: Job) -> Facts:
        from itertools import chain

        data_root = job.runtime.data_root
        if self.tokenizer.content(data_root) != self.content:
            raise UserError(
                f"What tokenizer {self.tokenizer.kind} is made from changed between planning and reading it.",
                "Run the study again.",
            )
        made = self.tokenizer.make(lambda: chain.from_iterable(job.texts()), data_root)
        return {**made.save(job.out)}

    @classmethod
    def notes(cls, record: Record) -> list[str]:
        tokens, characters = record.facts["vocab_size"], record.facts.get("characters", 0)
        crowded = 100 * characters > 45 * tokens
        return [f"{characters:,} of its {tokens:,} tokens are single characters: raise vocab_size"] if crowded else []
