"""Stages about which tokens a corpus and a task share: overlap, duplicates."""

from __future__ import annotations

import pandas as pd

from tlm.data.near_duplicates import count_ngrams, find_near_duplicates
from tlm.data.overlap import count_tokens, measure_overlap, token_table
from tlm.data.ragged import Ragged
from tlm.stages.job import Facts, Job


def overlap(job: Job) -> Facts:
    """overlap.parquet (one row for each part of the task: all, train, test) and token_counts.parquet (part all)."""
    vocabulary = job.vocabulary()
    corpus = count_tokens(job.sequences("corpus"), vocabulary)
    counts = {part: count_tokens(task_tokens(job, part), vocabulary) for part in ("all", "train", "test")}
    measured = {part: measure_overlap(corpus.occurrences, task.occurrences) for part, task in counts.items()}
    job.write(pd.DataFrame([{"part": part, **found.as_dict()} for part, found in measured.items()]), "overlap.parquet")
    job.write(token_table(vocabulary, corpus, counts["all"]), "token_counts.parquet")
    return {**measured["all"].as_dict()}


def duplicates(job: Job) -> Facts:
    """duplicates.parquet: for each dev and test item, its n-grams of tokens and how many of them the corpus holds."""
    n = int(job.step.config["ngram"])
    items = job.frame("task", "items.parquet", ["row", "item_id", "part"])
    items = items[items["part"] != "train"].reset_index(drop=True)
    sequences = job.sequences("task_tokens").take(items["row"].to_numpy())
    ngrams, hits = count_ngrams(sequences, n), find_near_duplicates(job.sequences("corpus"), sequences, n)
    found = items[["item_id", "part"]].assign(ngrams=ngrams, hits=hits)
    job.write(found, "duplicates.parquet")
    held = found.loc[found["part"] == "test", "hits"] > 0
    return {"test_items": len(held), "test_duplicates": int(held.sum()), "share": float(held.mean())}


def task_tokens(job: Job, part: str) -> Ragged:
    """The token ids of the task's items of a part (train, dev, test), or of all."""
    items = job.frame("task", "items.parquet", ["row", "part"])
    rows = items["row"] if part == "all" else items.loc[items["part"] == part, "row"]
    return job.sequences("task_tokens").take(rows.to_numpy())
