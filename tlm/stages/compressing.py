"""What the stages that compress models have in common: their names, which shape is left, and what each method does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tlm.artifacts.step import Label
from tlm.errors import UserError
from tlm.modeling.families.base import Pieces, family_of
from tlm.stages.base import Count, Stage
from tlm.stages.pretrain import WEIGHTS, Pretrain, in_arm
from tlm.study.architecture import Architecture
from tlm.study.compression import Compression, Method

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tlm.data.ragged import Rows
    from tlm.stages.finetune import Finetune
    from tlm.stages.job import Facts, Job

CALIBRATION_TEXTS = 256
"""Texts, evenly spread over those that a model was trained on, of which Wanda learns what weights are multiplied with."""


class Compressing(Stage):
    """A stage that makes a model smaller without training it again."""

    weights = WEIGHTS
    reads_weights = True
    requires = ("torch", "transformers")
    told = {"stored_bytes": Count, "stored_bytes_before": Count}

    if TYPE_CHECKING:  # fields of each of these stages

        @property
        def model(self) -> Pretrain | Finetune: ...

        @property
        def architecture(self) -> Architecture:
            """Of the compressed model."""

        @property
        def method(self) -> Method: ...

        @property
        def share(self) -> float | None: ...

    @property
    def asked(self) -> Compression:
        return Compression(method=self.method, share=self.share)

    @property
    def slug(self) -> str:
        return f"{self.model.slug}-{self.asked.title}"

    @property
    def labels(self) -> dict[str, Label]:
        own = self.model.labels
        return {**own, **in_arm(", ".join(str(part) for part in (own.get("arm"), self.asked.title) if part))}


def shape_left(shape: Architecture, asked: Compression) -> Architecture:
    """A model's shape once it is compressed. UserError if it has not what is to be taken out, or none would be left."""
    if asked.method not in ("neurons", "heads") or asked.share is None:
        return shape
    pieces = _pieces(shape, asked.method)
    return pieces.kept(shape, _remaining(pieces, asked.share, f"{shape.name}'s {pieces.count} {asked.method}"))


def compressed(
    job: Job,
    model: PreTrainedModel,
    shape: Architecture,
    asked: Compression,
    *,
    max_length: int,
    read_texts: Callable[[], object],
) -> tuple[PreTrainedModel, Facts]:
    """Save a model without what the method takes out, with its tokenizer's files; it as it is read from there, and facts.

    Args:
        model: that of the job's input `model`, on its device. It is changed.
        shape: the model's own.
        read_texts: has `model` read what Wanda is to see.
    """
    from tlm.modeling.cost import count_parameters
    from tlm.modeling.interchange import WEIGHTS_FILE, load_strict, save
    from tlm.modeling.pruning import layer_matrices
    from tlm.modeling.storage import as_int8, as_sparse

    before = sum(weight.numel() for weight in layer_matrices(model).values())
    smaller = _pruned(model, shape, asked, read_texts)
    left = sum(int(weight.count_nonzero()) for weight in layer_matrices(smaller).values())
    save(smaller, job.out, {"int8": as_int8, "magnitude": as_sparse, "wanda": as_sparse}.get(asked.method))
    job.copy_tokenizer(max_length)
    read = load_strict(type(smaller), job.out).to(model.device)
    return read, {
        **({} if asked.share is None else {"share_of_layers_removed": 1 - left / before}),
        "parameters": count_parameters(read),
        "stored_bytes": (job.out / WEIGHTS_FILE).stat().st_size,
        "stored_bytes_before": job.inputs["model"].path(WEIGHTS_FILE).stat().st_size,
    }


def spread_evenly(rows: Rows) -> Rows:
    """About `CALIBRATION_TEXTS` of these rows, at least so many if there are."""
    return rows[:: max(1, len(rows) // CALIBRATION_TEXTS)]


def _pruned(
    model: PreTrainedModel, shape: Architecture, asked: Compression, read_texts: Callable[[], object]
) -> PreTrainedModel:
    """The same model unless its shape changes."""
    from tlm.modeling.pruning import InputNorms, keep_pieces, prune_by_magnitude, prune_by_wanda

    if asked.share is None:
        return model
    if asked.method in ("neurons", "heads"):
        pieces = _pieces(shape, asked.method)
        return keep_pieces(model, pieces, int(getattr(shape_left(shape, asked), pieces.amount)))
    if asked.method == "magnitude":
        prune_by_magnitude(model, asked.share)
        return model
    with InputNorms() as seen:
        read_texts()
    prune_by_wanda(model, asked.share, seen)
    return model


def _pieces(shape: Architecture, method: Method) -> Pieces:
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
