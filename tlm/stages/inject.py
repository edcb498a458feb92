"""Stage `inject`: a pre-training set in which some of a task's tokens are missing (paper: Table 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlm.artifacts.tables import Table
from tlm.stages.base import Aside, Flat
from tlm.stages.corpus import Corpus
from tlm.stages.pretraining_set import ROWS, TOKENS, PretrainingSet, write_corpus, write_rows
from tlm.stages.task import Task
from tlm.stages.tokenizer import Tokenizer
from tlm.stages.tokens import Tokens
from tlm.study.treatments import MissingTokens, Removal

if TYPE_CHECKING:
    from tlm.stages.job import Facts, Job

REMOVED = Table(
    "injected_tokens",
    {"token_id": "integer", "token": "varchar", "corpus_count": "bigint", "task_count": "bigint"},
)


class Inject(PretrainingSet, name="inject", version="1"):
    """A pre-training set with tokens removed, and removed.parquet: which."""

    corpus: Corpus
    corpus_tokens: Tokens
    task: Task
    task_tokens: Tokens
    tokenizer: Tokenizer
    removal: Flat[Removal]
    treated: Aside[MissingTokens]

    outputs = {**TOKENS, **ROWS, "removed.parquet": REMOVED}

    @property
    def ws(self) -> int:
        return self.treated.ws

    @property
    def corpus_seed(self) -> int:
        return self.corpus.seed

    @property
    def slug(self) -> str:
        return f"ws{self.ws}-{self.treated.task}-{self.treated.label}-s{self.treated.seed}"

    def run(self, job: Job) -> Facts:
        from dataclasses import replace

        import numpy as np

        from tlm.data.injection import Source, inject_missing_tokens
        from tlm.data.overlap import count_tokens, token_table

        vocabulary = job.vocabulary()
        source = Source(job.sequences("corpus_tokens"), job.sample("corpus"), vocabulary.special.get("unk"))
        corpus = count_tokens(job.sequences("corpus"), vocabulary)
        task = count_tokens(job.task_tokens(), vocabulary)
        tokens, rows, removed = inject_missing_tokens(source, corpus.occurrences, task.occurrences, self.removal)
        facts = write_corpus(job, [tokens], job.sequences("corpus", "heldout"))
        write_rows(job, replace(source.sample, rows=rows, reserve=np.setdiff1d(source.sample.reserve, rows)))
        table = token_table(vocabulary, corpus, task).set_index("token_id").loc[removed].reset_index()
        job.write(table[["token_id", "token", "corpus_count", "task_count"]], "removed.parquet")
        return {**facts, "removed": len(removed), "removed_occurrences": int(corpus.occurrences[removed].sum())}
