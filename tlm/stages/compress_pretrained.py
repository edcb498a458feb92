"""Stage `compress_pretrained`: a language model made smaller without training it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from tlm.stages.compressing import Compressing, compressed, shape_left, spread_evenly
from tlm.stages.pretrain import CONFIG_AND_WEIGHTS, Pretrain
from tlm.stages.pretraining_set import PretrainingSet
from tlm.stages.tokenizer import Tokenizer
from tlm.study.architecture import Architecture
from tlm.study.compression import Compression, Method

if TYPE_CHECKING:
    from tlm.artifacts.record import Record
    from tlm.stages.job import Facts, Job


class CompressPretrained(Compressing, name="compress_pretrained", version="1", trains=True):
    """model.safetensors and config.json of a language model, with its tokenizer's files."""

    model: Pretrain
    corpus: PretrainingSet
    """The model's own."""
    tokenizer: Tokenizer
    architecture: Architecture
    max_length: int
    method: Method
    share: float | None = None

    outputs = dict.fromkeys(CONFIG_AND_WEIGHTS)

    @classmethod
    def of_model(cls, model: Pretrain, asked: Compression) -> Self:
        """Raises UserError if the model has not what is to be taken out of it, or nothing would be left."""
        return cls(
            model=model,
            corpus=model.corpus,
            tokenizer=model.tokenizer,
            architecture=shape_left(model.architecture, asked),
            max_length=model.max_length,
            method=asked.method,
            share=asked.share,
        )

    def run(self, job: Job) -> Facts:
        import numpy as np
        import torch

        from tlm.data.tokenizer import cut
        from tlm.evaluation.likelihood import log_likelihoods

        torch.set_num_threads(job.runtime.threads)
        device = job.runtime.torch_device()
        model, config = job.language_model()
        model.to(device)
        shape = Architecture.model_validate({"name": self.architecture.name, **config["architecture"]})

        def read_texts() -> None:
            texts, tokenizer = job.sequences("corpus"), job.tokenizer()
            texts = texts.take(spread_evenly(np.flatnonzero(texts.lengths)))
            begun = cut(tokenizer, texts, self.max_length - 2)
            starts = np.zeros(len(begun), dtype=np.int64)
            log_likelihoods(model, begun, starts, tokenizer.vocabulary, max_length=self.max_length, device=device)

        _, facts = compressed(job, model, shape, self.asked, max_length=self.max_length, read_texts=read_texts)
        return {**facts, "device": device}

    @classmethod
    def notes(cls, record: Record) -> list[str]:
        stored, before = record.facts["stored_bytes"], record.facts["stored_bytes_before"]
        return [f"stored in {stored:,} bytes instead of {before:,}"]
