"""Stage `shuffle`: a pre-training set with its words in another order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlm.stages.base import Aside
from tlm.stages.corpus import Corpus
from tlm.stages.pretraining_set import ROWS, TOKENS, PretrainingSet, write_corpus, write_rows
from tlm.stages.tokenizer import Tokenizer
from tlm.study.treatments import Shuffled

if TYPE_CHECKING:
    from tlm.stages.job import Facts, Job


class Shuffle(PretrainingSet, name="shuffle", version="1"):
    """A pre-training set with the words of each sentence, or of the whole corpus, in random order."""

    corpus: Corpus
    tokenizer: Tokenizer
    scope: str
    seed: int
    treated: Aside[Shuffled]

    outputs = {**TOKENS, **ROWS}

    @property
    def ws(self) -> int:
        return self.treated.ws

    @property
    def corpus_seed(self) -> int:
        return self.corpus.seed

    @property
    def slug(self) -> str:
        return f"ws{self.ws}-{self.treated.label}-s{self.seed}"

    def run(self, job: Job) -> Facts:
        import numpy as np

        from tlm.data.word_order import SHUFFLES

        generator = np.random.default_rng([self.seed, 0x5_4FF1E])
        tokens = SHUFFLES[self.scope](job.sequences("corpus"), job.tokenizer(), generator)
        write_rows(job, job.sample("corpus"))
        return write_corpus(job, [tokens], job.sequences("corpus", "heldout"))
