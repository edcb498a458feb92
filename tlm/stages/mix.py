"""Stage `mix`: a pre-training set of text of another source, alone or beside paragraphs of the study's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlm.errors import UserError
from tlm.stages.base import Aside
from tlm.stages.pretraining_set import TOKENS, PretrainingSet, write_corpus
from tlm.stages.tokens import Tokens
from tlm.study.treatments import Foreign

if TYPE_CHECKING:
    from tlm.stages.job import Facts, Job


class Mix(PretrainingSet, name="mix", version="1"):
    """`own` random paragraphs of a foreign source, then the `general` ones of the study's random sample of that size.

    For one seed the former nest in `own`, the latter in `general`. Empty foreign paragraphs are never drawn.
    """

    tokens: Tokens
    foreign: Tokens
    own: int
    general: int
    heldout: int
    seed: int
    treated: Aside[Foreign]

    outputs = TOKENS

    @property
    def ws(self) -> int:
        return self.treated.ws

    @property
    def corpus_seed(self) -> int:
        return self.seed

    @property
    def slug(self) -> str:
        return f"ws{self.ws}-{self.treated.name}-s{self.seed}"

    def run(self, job: Job) -> Facts:
        from itertools import chain

        import numpy as np

        from tlm.data.corpus import sample_corpus

        encoded, foreign = job.sequences("tokens"), job.sequences("foreign")
        sample = sample_corpus(encoded, ws=self.general, heldout=self.heldout, sampler="random", seed=self.seed)
        usable = np.flatnonzero(foreign.lengths > 0)
        if self.own > len(usable):
            raise UserError(
                f"mix: own={self.own} paragraphs of {job.inputs['foreign'].record.slug} are asked for, and "
                f"{len(usable)} of its {len(foreign)} are not empty.",
                f"Choose own up to {len(usable)}." if len(usable) else "Use a tokenizer that knows its text.",
            )
        drawn = np.random.default_rng([self.seed, 0x31_BED]).permutation(usable)[: self.own]
        tokens = chain(foreign.parts(drawn), encoded.parts(sample.rows))
        facts = write_corpus(job, tokens, encoded.take(sample.heldout))
        return {**facts, "own": self.own, "general": self.general}
