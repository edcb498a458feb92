"""Stage `exit_sweep`: what a language model with exits uses and loses at each threshold, on held-out text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tlm.artifacts.step import Label
from tlm.stages.base import Stage
from tlm.stages.pretrain import Pretrain
from tlm.stages.pretraining_set import PretrainingSet
from tlm.stages.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tlm.stages.job import Facts, Job

SWEEP = "exits.parquet"


class ExitSweep(Stage, name="exit_sweep", version="1", trains=True):
    """exits.parquet: a row for each threshold (`tlm.evaluation.early_exit.sweep`)."""

    model: Pretrain
    tokenizer: Tokenizer
    corpus: PretrainingSet

    requires = ("torch", "transformers")
    reads_weights = True
    outputs = {SWEEP: None}

    @property
    def slug(self) -> str:
        return self.model.step.slug

    @property
    def labels(self) -> dict[str, Label]:
        return self.model.labels

    def run(self, job: Job) -> Facts:
        import torch

        from tlm.evaluation.early_exit import sweep
        from tlm.study.config import PretrainConfig

        torch.set_num_threads(job.runtime.threads)
        device = job.runtime.torch_device()
        model, config = job.language_model()
        trained: PretrainConfig = PretrainConfig.model_validate(config["pretrain"])
        max_length, vocabulary = int(config["max_length"]), job.vocabulary()
        heldout: Any = job.sequences("corpus", "heldout")
        if trained.packing:
            heldout = heldout.joined(vocabulary.sep, max_length - 2, after=None)
        found = sweep(
            model.to(device),
            heldout,
            vocabulary,
            trained,
            max_length=max_length,
            device=device,
            progress=job.progress,
        )
        job.write(found, SWEEP)
        return {"thresholds": len(found), "device": device}
