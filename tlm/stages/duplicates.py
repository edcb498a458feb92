"""Stage `duplicates`: dev and test items that share many tokens in a row with a pre-training set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlm.artifacts.step import Label
from tlm.artifacts.tables import Table
from tlm.stages.base import Stage
from tlm.stages.pretraining_set import PretrainingSet
from tlm.stages.task import Task
from tlm.stages.tokens import Tokens

if TYPE_CHECKING:
    from tlm.stages.job import Facts, Job

DUPLICATES = Table("duplicates", {"item_id": "varchar", "part": "varchar", "ngrams": "bigint", "hits": "bigint"})


class Duplicates(Stage, name="duplicates", version="1"):
    """duplicates.parquet: for each dev and test item, its n-grams of tokens and how many of them the corpus holds."""

    corpus: PretrainingSet
    task: Task
    task_tokens: Tokens
    ngram: int
    """Tokens in a row that an item and the set must share to be called near-duplicates (`TokenizerConfig.ngram`)."""

    outputs = {"duplicates.parquet": DUPLICATES}

    @property
    def slug(self) -> str:
        return f"{self.task.task}-{self.corpus.step.slug}"

    @property
    def labels(self) -> dict[str, Label]:
        return {**self.corpus.labels, **self.task.labels}

    def run(self, job: Job) -> Facts:
        from tlm.data.near_duplicates import count_ngrams, find_near_duplicates

        items = job.frame("task", "items.parquet", ["row", "item_id", "part"])
        items = items[items["part"] != "train"].reset_index(drop=True)
        sequences = job.sequences("task_tokens").take(items["row"].to_numpy())
        ngrams = count_ngrams(sequences, self.ngram)
        hits = find_near_duplicates(job.sequences("corpus"), sequences, self.ngram)
        found = items[["item_id", "part"]].assign(ngrams=ngrams, hits=hits)
        job.write(found, "duplicates.parquet")
        held = found.loc[found["part"] == "test", "hits"] > 0
        return {"test_items": len(held), "test_duplicates": int(held.sum()), "share": float(held.mean())}
