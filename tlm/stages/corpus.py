"""Stage `corpus`: a pre-training set drawn from the study's source, at random or chosen for a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlm.stages.base import Aside
from tlm.stages.pretraining_set import ROWS, TOKENS, PretrainingSet, write_corpus, write_rows
from tlm.stages.task import Task
from tlm.stages.tokenizer import Tokenizer
from tlm.stages.tokens import Tokens
from tlm.study.treatments import Sampled

if TYPE_CHECKING:
    from tlm.stages.job import Facts, Job


class Corpus(PretrainingSet, name="corpus", version="1"):
    """A pre-training set: its tokens, its held-out split, and the source rows of sample, held-out split and reserve.

    Inputs task, task_tokens and tokenizer belong to a sampler that chooses by a task: by its training items alone.
    """

    tokens: Tokens
    ws: int
    heldout: int
    sampler: str
    seed: int
    level: float | None = None
    task: Task | None = None
    task_tokens: Tokens | None = None
    tokenizer: Tokenizer | None = None
    treated: Aside[Sampled | None] = None

    outputs = {**TOKENS, **ROWS}

    @property
    def corpus_seed(self) -> int:
        return self.seed

    @property
    def slug(self) -> str:
        chosen = f"-{self.treated.task}-{self.treated.label}" if self.treated else ""
        return f"ws{self.ws}{chosen}-s{self.seed}"

    def run(self, job: Job) -> Facts:
        import numpy as np

        from tlm.data.corpus import sample_corpus

        encoded = job.sequences("tokens")
        if "task" in job.inputs:
            special = list(job.vocabulary().special_ids)
            types, task_types = (t.keep(~np.isin(t.ids, special)) for t in (encoded, job.task_tokens("train")))
            usable = np.flatnonzero(encoded.lengths)  # the same as without a task, so that held-out text is too
            sample = sample_corpus(types, usable=usable, task=task_types, **job.step.config)
        else:
            sample = sample_corpus(encoded, **job.step.config)
        facts = write_corpus(job, encoded.parts(sample.rows), encoded.take(sample.heldout))
        write_rows(job, sample)
        return facts if sample.core is None else {**facts, "core": sample.core}
