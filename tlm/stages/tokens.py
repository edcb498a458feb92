"""Stages about which tokens a corpus and a task share: overlap, inject."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tlm.config import Removal
from tlm.injection import Source, inject_missing_tokens
from tlm.overlap import count_tokens, measure_overlap, token_table
from tlm.ragged import Ragged
from tlm.stages.job import Facts, Job


def overlap(job: Job) -> Facts:
    """overlap.parquet (one row for each part of the task: all, train, test) and token_counts.parquet (part all)."""
    vocabulary = job.vocabulary()
    corpus = count_tokens(job.sequences("corpus"), vocabulary)
    counts = {part: count_tokens(_task_tokens(job, part), vocabulary) for part in ("all", "train", "test")}
    measured = {part: measure_overlap(corpus.occurrences, task.occurrences) for part, task in counts.items()}
    job.write(pd.DataFrame([{"part": part, **found.as_dict()} for part, found in measured.items()]), "overlap.parquet")
    job.write(token_table(vocabulary, corpus, counts["all"]), "token_counts.parquet")
    return {**measured["all"].as_dict()}


def inject(job: Job) -> Facts:
    """A corpus artifact with tokens removed, and removed.parquet: which."""
    vocabulary = job.vocabulary()
    source = Source(job.sequences("corpus_tokens"), job.sample("corpus"), vocabulary.unk)
    corpus = count_tokens(job.sequences("corpus"), vocabulary)
    task = count_tokens(_task_tokens(job, "all"), vocabulary)
    config = Removal.model_validate(job.config)
    tokens, rows, removed = inject_missing_tokens(source, corpus.occurrences, task.occurrences, config)
    tokens.save(job.out, "tokens")
    # The held-out part stays as it was: models pre-trained with and without injection are validated on the same text.
    job.sequences("corpus", "heldout").save(job.out, "heldout")
    reserve = np.setdiff1d(source.sample.reserve, rows)
    for role, values in (("rows", rows), ("heldout_rows", source.sample.heldout), ("reserve_rows", reserve)):
        np.save(job.out / f"{role}.npy", values)
    table = token_table(vocabulary, corpus, task).set_index("token_id").loc[removed].reset_index()
    job.write(table[["token_id", "token", "corpus_count", "task_count"]], "removed.parquet")
    return {
        "ws": len(tokens),
        "heldout": len(source.sample.heldout),
        "tokens": int(tokens.lengths.sum()),
        "mean_length": float(tokens.lengths.mean()),
        "removed": len(removed),
        "removed_occurrences": int(corpus.occurrences[removed].sum()),
    }


def _task_tokens(job: Job, part: str) -> Ragged:
    items = job.frame("task", "items.parquet", ["row", "part"])
    rows = items["row"] if part == "all" else items.loc[items["part"] == part, "row"]
    return job.sequences("task_tokens").take(rows.to_numpy())
