"""Stage `tokenizer`: a given vocabulary, or one trained on the study's pre-training source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tlm.errors import UserError
from tlm.stages.base import Aside, Flat, Stage
from tlm.stages.source import Source
from tlm.study.config import Tokenizer as TokenizerConfig
from tlm.study.config import TrainedTokenizer, VocabularyTokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from tlm.stages.job import Facts, Job


class Tokenizer(Stage, name="tokenizer", version="1"):
    """vocab.txt and, for other programs, tokenizer.json."""

    content: Flat[dict[str, Any]]
    """What makes the tokenizer (`tlm.data.tokenizer.tokenizer_identity`)."""
    tokenizer: Aside[TokenizerConfig]
    source: Source | None = None
    """The text that it is trained on, if it is."""

    retries = 2
    outputs = {"vocab.txt": None, "tokenizer.json": None}

    @property
    def slug(self) -> str:
        return self.tokenizer.kind

    def run(self, job: Job) -> Facts:
        from tlm.data.tokenizer import load_tokenizer, read_vocabulary, train_wordpiece, write_vocabulary

        if isinstance(self.tokenizer, TrainedTokenizer):
            texts = job.frame("source", "rows.parquet", ["text"])["text"]
            write_vocabulary(train_wordpiece(texts, self.tokenizer), job.out / "vocab.txt")
        else:
            (job.out / "vocab.txt").write_bytes(self._given(job.runtime.data_root).read_bytes())
        vocabulary = read_vocabulary(job.out / "vocab.txt")
        lowercase = self.tokenizer.lowercase
        load_tokenizer(vocabulary, lowercase=lowercase).save(str(job.out / "tokenizer.json"))
        return {"vocab_size": len(vocabulary), "lowercase": lowercase}

    def _given(self, data_root: str) -> Path:
        from tlm.data.tokenizer import fetch_hub_vocabulary, read_vocabulary, tokenizer_identity, vocabulary_path

        given: Any = self.tokenizer
        if isinstance(given, VocabularyTokenizer):
            if tokenizer_identity(given, data_root) != self.content:
                raise UserError(f"{given.path} changed between planning and reading it.", "Run the study again.")
            return vocabulary_path(given, data_root)
        path = fetch_hub_vocabulary(given)
        read_vocabulary(path, f"{given.repo}/vocab.txt")
        return path
