"""Stage `pretrain`: a language model of a pre-training set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlm.artifacts.step import Label
from tlm.artifacts.tables import METRICS
from tlm.stages.base import Aside, Stage
from tlm.stages.ppmi_svd import PpmiSvd
from tlm.stages.pretraining_set import PretrainingSet
from tlm.stages.tokenizer import Tokenizer
from tlm.study.architecture import Architecture
from tlm.study.config import PretrainConfig
from tlm.study.initialization import Initialization

if TYPE_CHECKING:
    from tlm.stages.job import Facts, Job

WEIGHTS = ("model.safetensors",)
CONFIG_AND_WEIGHTS = ("config.json", *WEIGHTS)


def in_arm(arm: str | None, budget: int | None = None) -> dict[str, Label]:
    """The labels of an arm's models; none where a study has no arms."""
    return {name: label for name, label in (("arm", arm), ("budget", budget)) if label is not None}


class Pretrain(Stage, name="pretrain", version="4", trains=True):
    """model.safetensors and config.json of a language model, with its tokenizer's files; metrics.parquet."""

    corpus: PretrainingSet
    tokenizer: Tokenizer
    architecture: Architecture
    pretrain: PretrainConfig
    max_length: int
    seed: int
    initialization: Initialization = Initialization()
    embeddings: PpmiSvd | None = None
    """What its tokens begin as; None: at random."""
    arm: Aside[str | None] = None
    """Of the study, whose way to train this is."""
    budget: Aside[int | None] = None
    """The arm's number of steps, where it has several."""

    role = "pretrains"
    requires = ("torch", "transformers")
    weights = WEIGHTS
    outputs = {**dict.fromkeys(CONFIG_AND_WEIGHTS), "metrics.parquet": METRICS}

    @property
    def slug(self) -> str:
        budget = None if self.budget is None else str(self.budget)
        parts = (self.architecture.name, self.arm, budget, self.corpus.step.slug, f"p{self.seed}")
        return "-".join(part for part in parts if part)

    @property
    def labels(self) -> dict[str, Label]:
        arm = in_arm(self.arm, self.budget)
        return {**self.corpus.labels, "arch": self.architecture.name, "pretrain_seed": self.seed, **arm}

    def run(self, job: Job) -> Facts:
        from tlm.data.tokenizer import KnowsBytes
        from tlm.modeling.interchange import save
        from tlm.training.pretrain import pretrain

        tokenizer, heldout = job.tokenizer(), job.sequences("corpus", "heldout")
        done = pretrain(
            job.sequences("corpus"),
            heldout,
            tokenizer.vocabulary,
            self.architecture,
            self.pretrain,
            max_length=self.max_length,
            seed=self.seed,
            initialization=self.initialization,
            embeddings=job.embeddings(),
            heldout_bytes=tokenizer.text_bytes(heldout) if isinstance(tokenizer, KnowsBytes) else None,
            device=job.runtime.torch_device(),
            hooks=job.training_hooks(),
            progress=job.progress,
        )
        save(done.model, job.out)
        job.copy_tokenizer(self.max_length)
        job.write(done.curve.frame(), "metrics.parquet")
        return {**done.facts}
