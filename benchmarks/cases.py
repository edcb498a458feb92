"""What is measured: model shapes, objectives and the text they run on. Imports neither torch nor pydantic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tlm.study.architecture import expand

Objective = Literal["pretrain", "finetune", "evaluate"]

LEARNING_RATE = 5e-5
WEIGHT_DECAY = 0.01
MLM_PROBABILITY = 0.15
EVALUATED_BATCHES = 8
"""The fewest batches of one evaluation: with a handful of items nobody could sort them by length."""


@dataclass(frozen=True)
class Shape:
    """A model's shape, as `tlm.modeling.cost` and `tlm.study.config.Architecture` name its fields."""

    num_hidden_layers: int
    num_attention_heads: int
    hidden_size: int
    intermediate_size: int
    conv_kernel_sizes: tuple[tuple[int, int], ...] = ()
    conv_channels: int = 0
    kind: Literal["encoder", "decoder"] = "encoder"


@dataclass(frozen=True)
class Case:
    """One row group of the table. `workload` names the tokenised text (see `benchmarks.workload`)."""

    name: str
    objective: Objective
    shape: Shape
    workload: str
    batch_size: int = 32
    max_length: int = 128

    @property
    def trains(self) -> bool:
        return self.objective != "evaluate"

    @property
    def least_batches(self) -> int:
        return 1 if self.trains else EVALUATED_BATCHES

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(fields: Mapping[str, Any]) -> Case:
        """The inverse of `as_dict`, also after a trip through JSON, which knows only lists."""
        shape = dict(fields["shape"])
        shape["conv_kernel_sizes"] = tuple((p, h) for p, h in shape["conv_kernel_sizes"])
        return Case(**{**fields, "shape": Shape(**shape)})


def shape_of(variant: str, **changes: Any) -> Shape:
    """The shape of one of tlm's variants, or of a change to it."""
    fields = expand({"variant": variant, **changes})
    fields.pop("name")
    return Shape(**fields)


_BERT6 = shape_of("bert6")
_BERT1 = shape_of("bert6", num_hidden_layers=1)
_CASES = (
    Case("pretrain-bert6-768", "pretrain", _BERT6, "wikipedia"),
    Case("pretrain-bert1-768", "pretrain", _BERT1, "wikipedia"),
    Case("pretrain-bert1b-768", "pretrain", shape_of("bert1b"), "wikipedia"),
    Case("finetune-bert6-few_rel", "finetune", _BERT6, "few_rel"),
    Case("finetune-bert6-ag_news", "finetune", _BERT6, "ag_news"),
    Case("finetune-bert6-dbpedia", "finetune", _BERT6, "dbpedia"),
    Case("evaluate-bert6-few_rel", "evaluate", _BERT6, "few_rel"),
    Case("pretrain-bert6-128", "pretrain", shape_of("bert6", num_attention_heads=2), "wikipedia-8192"),
    Case(
        "pretrain-bert1-128",
        "pretrain",
        shape_of("bert6", num_hidden_layers=1, num_attention_heads=2),
        "wikipedia-8192",
    ),
)
CASES: dict[str, Case] = {case.name: case for case in _CASES}
