"""Stages that make one pre-training set of another, or of two sources: inject, shuffle, mix."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tlm.data.corpus import sample_corpus
from tlm.data.injection import Source, inject_missing_tokens
from tlm.data.overlap import count_tokens, token_table
from tlm.data.ragged import concatenate
from tlm.data.word_order import SHUFFLES
from tlm.errors import UserError
from tlm.stages.data import write_corpus, write_rows
from tlm.stages.job import Facts, Job
from tlm.stages.tokens import task_tokens
from tlm.study.treatments import Removal

# In every stage here the held-out part stays the untreated study's, so that held-out losses are of the same text.


def inject(job: Job) -> Facts:
    """A corpus artifact with tokens removed, and removed.parquet: which."""
    vocabulary = job.vocabulary()
    source = Source(job.sequences("corpus_tokens"), job.sample("corpus"), vocabulary.unk)
    corpus = count_tokens(job.sequences("corpus"), vocabulary)
    task = count_tokens(task_tokens(job, "all"), vocabulary)
    config = Removal.model_validate(job.config)
    tokens, rows, removed = inject_missing_tokens(source, corpus.occurrences, task.occurrences, config)
    facts = write_corpus(job, tokens, job.sequences("corpus", "heldout"))
    write_rows(job, replace(source.sample, rows=rows, reserve=np.setdiff1d(source.sample.reserve, rows)))
    table = token_table(vocabulary, corpus, task).set_index("token_id").loc[removed].reset_index()
    job.write(table[["token_id", "token", "corpus_count", "task_count"]], "removed.parquet")
    return {**facts, "removed": len(removed), "removed_occurrences": int(corpus.occurrences[removed].sum())}


def shuffle(job: Job) -> Facts:
    """A corpus artifact with the words of each sentence, or of the whole corpus, in random order."""
    generator = np.random.default_rng([job.step.config["seed"], 0x5_4FF1E])
    tokens = SHUFFLES[str(job.config["scope"])](job.sequences("corpus"), job.vocabulary(), generator)
    write_rows(job, job.sample("corpus"))
    return write_corpus(job, tokens, job.sequences("corpus", "heldout"))


def mix(job: Job) -> Facts:
    """`own` random paragraphs of a foreign source, then the `general` ones of the study's random sample of that size.

    For one seed the former nest in `own`, the latter in `general`. Empty foreign paragraphs are never drawn.
    """
    own, general, heldout, seed = (job.step.config[name] for name in ("own", "general", "heldout", "seed"))
    encoded, foreign = job.sequences("tokens"), job.sequences("foreign")
    sample = sample_corpus(encoded, ws=general, heldout=heldout, sampler="random", seed=seed)
    usable = np.flatnonzero(foreign.lengths > 0)
    if own > len(usable):
        raise UserError(
            f"mix: own={own} paragraphs of {job.inputs['foreign'].record.slug} are asked for, and {len(usable)} of its "
            f"{len(foreign)} are not empty.",
            f"Choose own up to {len(usable)}.",
        )
    drawn = np.random.default_rng([seed, 0x31_BED]).permutation(usable)[:own]
    tokens = concatenate([foreign.take(drawn), encoded.take(sample.rows)])
    facts = write_corpus(job, tokens, encoded.take(sample.heldout))
    return {**facts, "own": own, "general": general}
