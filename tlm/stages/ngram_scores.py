"""Stage `ngram_scores`: how likely counts of a pre-training set make each option of a benchmark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlm.artifacts.step import Label
from tlm.stages.base import Stage
from tlm.stages.benchmark import Benchmark
from tlm.stages.option_scores import SCORES
from tlm.stages.pretraining_set import PretrainingSet
from tlm.stages.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tlm.stages.job import Facts, Job

ORDER = 5
"""Tokens of the longest n-grams that are counted."""


class NgramScores(Stage, name="ngram_scores", version="1"):
    """scores.parquet of an n-gram model (`tlm.evaluation.ngram`) of a pre-training set."""

    corpus: PretrainingSet
    tokenizer: Tokenizer
    benchmark: Benchmark
    order: int

    outputs = {SCORES: None}

    @property
    def slug(self) -> str:
        return f"{self.benchmark.slug}-{self.order}gram-{self.corpus.step.slug}"

    @property
    def labels(self) -> dict[str, Label]:
        return {**self.corpus.labels, **self.benchmark.labels}

    def run(self, job: Job) -> Facts:
        import pandas as pd

        from tlm.evaluation.ngram import fit

        model = fit(job.sequences("corpus"), job.vocabulary(), self.order)
        starts = job.frame("benchmark", "options.parquet", ["start"])["start"].to_numpy()
        log_p = model.log_likelihoods(job.sequences("benchmark"), starts)
        job.write(pd.DataFrame({"log_p": log_p}), SCORES)
        return {"options": len(log_p), "ngrams": sum(len(order.keys_G) for order in model.orders)}
