"""Stage `option_scores`: how likely a pre-trained language model finds each option of a benchmark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tlm.artifacts.step import Label
from tlm.stages.base import Stage
from tlm.stages.benchmark import Benchmark
from tlm.stages.compress_pretrained import CompressPretrained
from tlm.stages.pretrain import Pretrain
from tlm.stages.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tlm.stages.job import Facts, Job

SCORES = "scores.parquet"
"""Of every stage that scores options: log_p (nats) of each, in the order of the benchmark's options.parquet; null for one
that does not fit."""


class OptionScores(Stage, name="option_scores", version="1", trains=True):
    """scores.parquet of a pre-trained model, computed in float32: exact log p for a decoder, a pseudo-log-likelihood for an
    encoder (`tlm.evaluation.likelihood`).
    """

    model: Pretrain | CompressPretrained
    """The latter is one that was made smaller."""
    tokenizer: Tokenizer
    benchmark: Benchmark

    requires = ("torch", "transformers")
    reads_weights = True
    outputs = {SCORES: None}

    @property
    def slug(self) -> str:
        return f"{self.benchmark.slug}-{self.model.step.slug}"

    @property
    def labels(self) -> dict[str, Label]:
        return {**self.model.labels, **self.benchmark.labels}

    def run(self, job: Job) -> Facts:
        model, config = job.language_model()
        return score_options(job, model, int(config["max_length"]))


def score_options(job: Job, model: Any, max_length: int) -> Facts:
    """Write the scores that a language model gives to the job's benchmark."""
    import time

    import pandas as pd
    import torch

    from tlm.evaluation.likelihood import log_likelihoods

    torch.set_num_threads(job.runtime.threads)
    device = job.runtime.torch_device()
    starts = job.frame("benchmark", "options.parquet", ["start"])["start"].to_numpy()
    began = time.perf_counter()
    log_p = log_likelihoods(
        model.to(device),
        job.sequences("benchmark"),
        starts,
        job.vocabulary(),
        max_length=max_length,
        device=device,
        progress=job.progress,
    )
    seconds = time.perf_counter() - began
    job.write(pd.DataFrame({"log_p": log_p}), SCORES)
    return {"options": len(log_p), "options_per_second": round(len(log_p) / seconds, 1), "device": device}
