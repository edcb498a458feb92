"""Stage `ppmi_svd`: word vectors from the counts of a pre-training set, for a model's embeddings to begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlm.artifacts.step import Label
from tlm.stages.base import Flat, Stage
from tlm.stages.pretraining_set import PretrainingSet
from tlm.stages.tokenizer import Tokenizer
from tlm.study.initialization import PpmiSvdConfig

if TYPE_CHECKING:
    from tlm.stages.job import Facts, Job

VECTORS = "vectors.npy"


class PpmiSvd(Stage, name="ppmi_svd", version="1"):
    """vectors.npy: (vocabulary, dimensions) float32, a row of zeros for a token that the set does not hold.

    It is made of the pre-training set alone: what a model takes from it, it has seen nowhere else.
    """

    corpus: PretrainingSet
    tokenizer: Tokenizer
    dimensions: int
    """The hidden size of the models that begin with it."""
    settings: Flat[PpmiSvdConfig]

    role = "embeds"
    requires = ("scipy", "sklearn")
    outputs = {VECTORS: None}

    @property
    def slug(self) -> str:
        return f"{self.corpus.step.slug}-d{self.dimensions}"

    @property
    def labels(self) -> dict[str, Label]:
        return self.corpus.labels

    def run(self, job: Job) -> Facts:
        import numpy as np

        from tlm.data.ppmi import factorised, ppmi_matrix, svd_flops

        ppmi = ppmi_matrix(job.sequences("corpus"), len(job.vocabulary()), self.settings)
        vectors_VD = factorised(ppmi, self.dimensions, self.settings)
        np.save(job.out / VECTORS, vectors_VD)
        known = int((vectors_VD != 0).any(axis=1).sum())
        return {"vectors": len(vectors_VD), "known": known, "flops": svd_flops(ppmi, self.dimensions)}
