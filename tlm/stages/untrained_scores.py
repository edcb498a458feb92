"""Stage `untrained_scores`: how likely a model finds each option of a benchmark before it has learnt anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from tlm.artifacts.step import Label
from tlm.stages.base import Stage
from tlm.stages.benchmark import Benchmark
from tlm.stages.option_scores import SCORES, score_options
from tlm.stages.ppmi_svd import PpmiSvd
from tlm.stages.pretrain import Pretrain
from tlm.stages.pretraining_set import PretrainingSet
from tlm.stages.tokenizer import Tokenizer
from tlm.study.architecture import Architecture
from tlm.study.initialization import Initialization

if TYPE_CHECKING:
    from tlm.stages.job import Facts, Job


class UntrainedScores(Stage, name="untrained_scores", version="1", trains=True):
    """scores.parquet of the model that a pre-training begins with: the same seed and initialisation, no step."""

    architecture: Architecture
    tokenizer: Tokenizer
    max_length: int
    seed: int
    benchmark: Benchmark
    initialization: Initialization = Initialization()
    embeddings: PpmiSvd | None = None
    corpus: PretrainingSet | None = None
    """Whose tokens are counted for the output bias, if that begins as `output_bias` says."""
    output_bias: Literal["zeros", "log_unigram"] = "zeros"

    requires = ("torch", "transformers")
    outputs = {SCORES: None}

    @classmethod
    def before(cls, model: Pretrain, benchmark: Benchmark) -> Self:
        """What `model` was before its pre-training."""
        bias = model.pretrain.output_bias
        return cls(
            architecture=model.architecture,
            tokenizer=model.tokenizer,
            max_length=model.max_length,
            seed=model.seed,
            benchmark=benchmark,
            initialization=model.initialization,
            embeddings=model.embeddings,
            corpus=model.corpus if bias == "log_unigram" else None,
            output_bias=bias,
        )

    @property
    def slug(self) -> str:
        return f"{self.benchmark.slug}-{self.architecture.name}-untrained-p{self.seed}"

    @property
    def labels(self) -> dict[str, Label]:
        return {"arch": self.architecture.name, "pretrain_seed": self.seed, **self.benchmark.labels}

    def run(self, job: Job) -> Facts:
        import numpy as np

        from tlm.training.pretrain import untrained

        vocabulary = job.vocabulary()
        counted = "corpus" in job.inputs
        model = untrained(
            self.architecture,
            vocabulary,
            max_length=self.max_length,
            seed=self.seed,
            initialization=self.initialization,
            embeddings=job.embeddings(),
            counts_V=np.bincount(job.sequences("corpus").ids, minlength=len(vocabulary)) if counted else None,
        )
        return score_options(job, model, self.max_length)
