"""Stage `overlap`: which tokens a pre-training set and a task share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlm.artifacts.step import Label
from tlm.artifacts.tables import Table
from tlm.stages.base import Stage
from tlm.stages.pretraining_set import PretrainingSet
from tlm.stages.task import Task
from tlm.stages.tokenizer import Tokenizer
from tlm.stages.tokens import Tokens

if TYPE_CHECKING:
    from tlm.stages.job import Facts, Job

COUNTS = ("corpus_types", "task_types", "common_types", "missing_from_corpus", "missing_from_task")
MEASURES = ("type_overlap", "occurrence_overlap", "jaccard", "weighted_jaccard", "js_divergence", "kl_divergence")
OVERLAP = Table("overlap", {"part": "varchar", **dict.fromkeys(COUNTS, "bigint"), **dict.fromkeys(MEASURES, "double")})
TOKEN_COUNTS = Table(
    "token_counts",
    {
        "token_id": "integer",
        "token": "varchar",
        "corpus_count": "bigint",
        "corpus_documents": "bigint",
        "task_count": "bigint",
        "task_documents": "bigint",
    },
)


class Overlap(Stage, name="overlap", version="1"):
    """overlap.parquet, one row for each split of the task (all, train, test), and token_counts.parquet (of all)."""

    corpus: PretrainingSet
    task: Task
    task_tokens: Tokens
    tokenizer: Tokenizer

    outputs = {"overlap.parquet": OVERLAP, "token_counts.parquet": TOKEN_COUNTS}

    @property
    def slug(self) -> str:
        return f"{self.task.task}-{self.corpus.step.slug}"

    @property
    def labels(self) -> dict[str, Label]:
        return {**self.corpus.labels, **self.task.labels}

    def run(self, job: Job) -> Facts:
        import pandas as pd

        from tlm.data.overlap import count_tokens, measure_overlap, token_table

        vocabulary = job.vocabulary()
        corpus = count_tokens(job.sequences("corpus"), vocabulary)
        counts = {part: count_tokens(job.task_tokens(part), vocabulary) for part in ("all", "train", "test")}
        measured = {part: measure_overlap(corpus.occurrences, task.occurrences) for part, task in counts.items()}
        rows = [{"part": part, **found.as_dict()} for part, found in measured.items()]
        job.write(pd.DataFrame(rows), "overlap.parquet")
        job.write(token_table(vocabulary, corpus, counts["all"]), "token_counts.parquet")
        return {**measured["all"].as_dict()}
