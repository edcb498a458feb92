"""Stage `contained`: items of a benchmark whose text a pre-training set holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlm.artifacts.step import Label
from tlm.errors import UserError
from tlm.stages.base import Count, Stage
from tlm.stages.benchmark import Benchmark
from tlm.stages.pretraining_set import PretrainingSet

if TYPE_CHECKING:
    from tlm.artifacts.record import Record
    from tlm.stages.job import Facts, Job


class Contained(Stage, name="contained", version="1"):
    """contained.parquet: for each item, in the benchmark's order, its n-grams of tokens and how many the set holds.

    Compared is the right option with its prefix. Raises UserError if the set holds some of every item.
    """

    corpus: PretrainingSet
    benchmark: Benchmark
    ngram: int

    outputs = {"contained.parquet": None}
    told = {"items": Count, "contained": Count}

    @property
    def slug(self) -> str:
        return f"{self.benchmark.slug}-{self.corpus.step.slug}"

    @property
    def labels(self) -> dict[str, Label]:
        return {**self.corpus.labels, **self.benchmark.labels}

    def run(self, job: Job) -> Facts:
        import pandas as pd

        from tlm.data.near_duplicates import count_ngrams, find_near_duplicates

        items = job.frame("benchmark", "items.parquet", ["item_id", "gold", "options"])
        right = items["options"].cumsum() - items["options"] + items["gold"]
        texts = job.sequences("benchmark").take(right.to_numpy())
        ngrams = count_ngrams(texts, self.ngram)
        hits = find_near_duplicates(job.sequences("corpus"), texts, self.ngram)
        job.write(pd.DataFrame({"item_id": items["item_id"], "ngrams": ngrams, "hits": hits}), "contained.parquet")
        scored, contained = int((ngrams > 0).sum()), int((hits > 0).sum())
        if contained == scored:
            raise UserError(
                f"Pre-training set {job.inputs['corpus'].record.slug} holds text of every one of the {scored:,} items of "
                f"{job.step.labels['task']} ({self.ngram} tokens in a row): a score would say nothing.",
                "Pre-train on text without the benchmark, or leave the evaluation out.",
            )
        return {"items": scored, "contained": contained, "share": contained / scored}

    @classmethod
    def notes(cls, record: Record) -> list[str]:
        contained, items = record.facts["contained"], record.facts["items"]
        if not contained:
            return []
        return [
            f"the pre-training set holds {record.config['ngram']} tokens in a row of {contained:,} of {items:,} items"
        ]
