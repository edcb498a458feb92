"""Stage `compress`: a fine-tuned model made smaller without training it again, and its predictions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from tlm.artifacts.tables import PREDICTIONS
from tlm.errors import UserError
from tlm.stages.base import Stage
from tlm.stages.compress_pretrained import CompressPretrained
from tlm.stages.compressing import Compressing, compressed, shape_left, spread_evenly
from tlm.stages.evaluating import Evaluating, Models
from tlm.stages.finetune import Finetune
from tlm.stages.latency import BATCH_SIZES, REPEATS, Latency
from tlm.stages.likelihood import Likelihood
from tlm.stages.pretrain import CONFIG_AND_WEIGHTS, Pretrain
from tlm.stages.task import Task
from tlm.stages.tokenizer import Tokenizer
from tlm.stages.tokens import Tokens
from tlm.study.architecture import Architecture
from tlm.study.compression import Compression, Method
from tlm.study.config import FinetuneConfig
from tlm.study.likelihood import Likelihood as LikelihoodConfig

if TYPE_CHECKING:
    from tlm.stages.job import Facts, Job


class Compress(Compressing, Evaluating, name="compress", version="1", trains=True):
    """model.safetensors and config.json of a classifier, with its labels' names and its tokenizer's files;
    predictions.parquet (dev and test), by the model as it is read from its file.
    """

    asked_by = Compression

    model: Finetune
    task: Task
    tokens: Tokens
    tokenizer: Tokenizer
    architecture: Architecture
    finetune: FinetuneConfig
    """Of the model."""
    max_length: int
    method: Method
    share: float | None = None

    role = "predicts"
    outputs = {**dict.fromkeys(CONFIG_AND_WEIGHTS), "predictions.parquet": PREDICTIONS}

    @classmethod
    def wanted(cls, asked: Any, models: Models) -> Iterator[Stage]:
        """Beside fine-tuned models the time that one of each architecture takes, and that of the same one uncompressed; of
        language models what `likelihood` makes of their scores, for each benchmark that the study asks.

        What began with word vectors and nothing else is there to be compared with others, and is not compressed.
        """
        finetuned = [model for model in models.finetuned if model.embeddings is None]
        benchmarks = [each for each in models.study.evaluations if isinstance(each, LikelihoodConfig)]
        if not finetuned and not benchmarks:
            raise UserError(
                "evaluations: compression is of models that are fine-tuned, or scored by likelihood, and there is none.",
                "Add a task, or a benchmark: {kind: likelihood, data: blimp}.",
            )
        timed = set()
        for model in finetuned:
            made = cls.of_model(model, asked)
            yield made
            if model.architecture.name not in timed:
                timed.add(model.architecture.name)
                yield from (_timed(each, model) for each in (model, made))
        for benchmark in benchmarks:
            for plain in Likelihood.wanted(benchmark, models):
                assert isinstance(plain.scores.model, Pretrain)
                smaller = CompressPretrained.of_model(plain.scores.model, asked)
                yield replace(plain, scores=replace(plain.scores, model=smaller))

    @classmethod
    def of_model(cls, model: Finetune, asked: Compression) -> Self:
        """Raises UserError if the model has not what is to be taken out of it, or nothing would be left."""
        return cls(
            model=model,
            task=model.task,
            tokens=model.tokens,
            tokenizer=model.tokenizer,
            architecture=shape_left(model.architecture, asked),
            finetune=model.finetune,
            max_length=model.max_length,
            method=asked.method,
            share=asked.share,
        )

    def run(self, job: Job) -> Facts:
        import torch

        from tlm.inference.finetuned import FinetunedModel
        from tlm.stages.held_out import predict_held_out
        from tlm.training.finetune import predict

        torch.set_num_threads(job.runtime.threads)
        device = job.runtime.torch_device()
        given = FinetunedModel.load(job.inputs["model"], device)

        def read_texts() -> None:
            items = job.frame("task", "items.parquet")
            rows = spread_evenly(items.loc[items["part"] == "train", "row"].to_numpy())
            predict(given.model, job.sequences("tokens"), rows, job.vocabulary(), self.max_length, device=device)

        read, facts = compressed(
            job, given.model, given.architecture, self.asked, max_length=self.max_length, read_texts=read_texts
        )
        return {**predict_held_out(job, replace(given, model=read, architecture=self.architecture)), **facts}


def _timed(model: Stage, finetuned: Finetune) -> Latency:
    return Latency(
        model=model,
        task=finetuned.task,
        tokens=finetuned.tokens,
        tokenizer=finetuned.tokenizer,
        batch_sizes=BATCH_SIZES,
        repeats=REPEATS,
    )
