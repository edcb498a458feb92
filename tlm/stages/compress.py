"""Stage `compress`: a fine-tuned model made smaller without training it again, and its predictions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

from tlm.artifacts.step import Label
from tlm.artifacts.tables import PREDICTIONS
from tlm.errors import UserError
from tlm.modeling.families.base import Pieces, family_of
from tlm.stages.base import Count, Stage
from tlm.stages.evaluating import Evaluating, Models
from tlm.stages.finetune import Finetune
from tlm.stages.latency import BATCH_SIZES, REPEATS, Latency
from tlm.stages.pretrain import CONFIG_AND_WEIGHTS, WEIGHTS, in_arm
from tlm.stages.task import Task
from tlm.stages.tokenizer import Tokenizer
from tlm.stages.tokens import Tokens
from tlm.study.architecture import Architecture
from tlm.study.compression import Compression, Method
from tlm.study.config import FinetuneConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tlm.inference.finetuned import FinetunedModel
    from tlm.stages.job import Facts, Job

CALIBRATION_ITEMS = 256
"""Training items, evenly spread over the task, of which Wanda learns what weights are multiplied with."""


class Compress(Evaluating, name="compress", version="1", trains=True):
    """model.safetensors and config.json of a classifier, with its labels' names and its tokenizer's files;
    predictions.parquet (dev and test), by the model as it is read from its file.
    """

    asked_by = Compression

    model: Finetune
    task: Task
    tokens: Tokens
    tokenizer: Tokenizer
    architecture: Architecture
    """Of the compressed model."""
    finetune: FinetuneConfig
    """Of the model."""
    max_length: int
    method: Method
    share: float | None = None

    role = "predicts"
    weights = WEIGHTS
    reads_weights = True
    requires = ("torch", "transformers")
    outputs = {**dict.fromkeys(CONFIG_AND_WEIGHTS), "predictions.parquet": PREDICTIONS}
    told = {"stored_bytes": Count, "stored_bytes_before": Count}

    @classmethod
    def wanted(cls, asked: Any, models: Models) -> Iterator[Stage]:
        """Beside the models the time that one of each architecture takes, and that of the same one uncompressed.

        What began with word vectors and nothing else is there to be compared with others, and is not compressed.
        """
        finetuned = [model for model in models.finetuned if model.embeddings is None]
        if not finetuned:
            raise UserError("evaluations: compression is of fine-tuned models, and there is none.", "Add a task.")
        timed = set()
        for model in finetuned:
            made = cls.of_model(model, asked)
            yield made
            if model.architecture.name not in timed:
                timed.add(model.architecture.name)
                yield from (_timed(each, model) for each in (model, made))

    @classmethod
    def of_model(cls, model: Finetune, asked: Compression) -> Self:
        """Raises UserError if the model has not what is to be taken out of it, or nothing would be left."""
        shape, share = model.architecture, asked.share
        if asked.method in ("neurons", "heads") and share is not None:
            pieces = _pieces(shape, asked.method)
            shape = pieces.kept(shape, _remaining(pieces, share, f"{shape.name}'s {pieces.count} {asked.method}"))
        return cls(
            model=model,
            task=model.task,
            tokens=model.tokens,
            tokenizer=model.tokenizer,
            architecture=shape,
            finetune=model.finetune,
            max_length=model.max_length,
            method=asked.method,
            share=share,
        )

    @property
    def title(self) -> str:
        """What tables call it."""
        return Compression(method=self.method, share=self.share).title

    @property
    def slug(self) -> str:
        return f"{self.model.slug}-{self.title}"

    @property
    def labels(self) -> dict[str, Label]:
        own = self.model.labels
        return {**own, **in_arm(", ".join(str(part) for part in (own.get("arm"), self.title) if part))}

    def run(self, job: Job) -> Facts:
        from dataclasses import replace

        import torch

        from tlm.inference.finetuned import FinetunedModel
        from tlm.modeling.cost import count_parameters
        from tlm.modeling.interchange import WEIGHTS_FILE, load_strict, save
        from tlm.modeling.pruning import layer_matrices
        from tlm.modeling.storage import as_int8, as_sparse
        from tlm.stages.held_out import predict_held_out

        torch.set_num_threads(job.runtime.threads)
        device = job.runtime.torch_device()
        given = FinetunedModel.load(job.inputs["model"], device)
        before = sum(weight.numel() for weight in layer_matrices(given.model).values())
        smaller = self._pruned(job, given)
        left = sum(int(weight.count_nonzero()) for weight in layer_matrices(smaller).values())
        storage = {"int8": as_int8, "magnitude": as_sparse, "wanda": as_sparse}.get(self.method)
        save(smaller, job.out, storage)
        job.copy_tokenizer(self.max_length)
        read = load_strict(type(smaller), job.out).to(device)
        facts = predict_held_out(job, replace(given, model=read, architecture=self.architecture))
        return {
            **facts,
            **({} if self.share is None else {"share_of_layers_removed": 1 - left / before}),
            "parameters": count_parameters(read),
            "stored_bytes": (job.out / WEIGHTS_FILE).stat().st_size,
            "stored_bytes_before": job.inputs["model"].path(WEIGHTS_FILE).stat().st_size,
        }

    def _pruned(self, job: Job, given: FinetunedModel) -> PreTrainedModel:
        """The model without what the method takes out; the same one unless its shape changes."""
        from tlm.modeling.pruning import InputNorms, keep_pieces, prune_by_magnitude, prune_by_wanda
        from tlm.training.finetune import predict

        model = given.model
        if self.share is None:
            return model
        if self.method in ("neurons", "heads"):
            pieces = _pieces(given.architecture, self.method)
            return keep_pieces(model, pieces, int(getattr(self.architecture, pieces.amount)))
        if self.method == "magnitude":
            prune_by_magnitude(model, self.share)
            return model
        items = job.frame("task", "items.parquet")
        rows = items.loc[items["part"] == "train", "row"].to_numpy()
        rows = rows[:: max(1, len(rows) // CALIBRATION_ITEMS)]
        with InputNorms() as seen:
            predict(model, job.sequences("tokens"), rows, job.vocabulary(), self.max_length, device=given.device)
        prune_by_wanda(model, self.share, seen)
        return model


def _pieces(shape: Architecture, method: str) -> Pieces:
    family = family_of(shape)
    pieces = family.neurons(shape) if method == "neurons" else family.heads(shape)
    if pieces is None:
        raise UserError(
            f"evaluations: compression: no {method} can be taken out of models of kind {family.kind} ({shape.name}).",
            "Use method: int8, magnitude or wanda.",
        )
    return pieces


def _remaining(pieces: Pieces, share: float, of: str) -> int:
    remaining = pieces.count - round(share * pieces.count)
    if not remaining:
        raise UserError(f"evaluations: compression: share: {share:g} of {of} is all of them.", "Give a smaller one.")
    return remaining


def _timed(model: Stage, finetuned: Finetune) -> Latency:
    return Latency(
        model=model,
        task=finetuned.task,
        tokens=finetuned.tokens,
        tokenizer=finetuned.tokenizer,
        batch_sizes=BATCH_SIZES,
        repeats=REPEATS,
    )
