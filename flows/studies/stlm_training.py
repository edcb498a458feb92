"""How super tiny models are trained: what they predict, and when they have dropout. Scored as those of `stlm` are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flows.studies.registry import study
from flows.studies.scales import Scale
from flows.studies.stlm import SIZES, Size, assemble_scored
from tlm.modeling.cost import pretraining_flops
from tlm.study.arms import Arm
from tlm.study.config import StudyConfig

HYBRID = {"objective": {"kind": "hybrid"}}
DROPOUT = 0.1
BERTS_VOCABULARY = 30_522


@dataclass(frozen=True)
class Repetition:
    """The two pre-training sets of `dropout-schedule`, and steps that read the smaller about twenty times and the larger
    once at most: a paragraph has about 160 tokens.
    """

    steps: int
    few: int
    many: int


REPETITIONS = {
    "tiny": Repetition(steps=200, few=125, many=150_000),
    "small": Repetition(steps=5_000, few=13_000, many=1_000_000),
    "paper": Repetition(steps=2_000, few=150_000, many=4_000_000),
}


@study
def objectives(scale: Scale) -> StudyConfig:
    """A decoder that learns from masked sequences too, beside a causal one, after as many tokens and operations."""
    size = SIZES[scale.name]
    longest = size.pretrain.steps or 0
    budgets = (longest // 4, longest)
    study = assemble_scored(
        scale, "objectives", "Does a decoder learn more from masked sequences and causal ones?", {"plain": {}}
    )
    factor = _operations(scale, size, study, {}) / _operations(scale, size, study, HYBRID)
    return _with_arms(
        study,
        {
            "causal": Arm(budgets=budgets),
            "hybrid": Arm(pretrain=HYBRID, budgets=budgets),
            "hybrid-flops": Arm(pretrain=HYBRID, budgets=tuple(round(factor * steps) for steps in budgets)),
        },
    )


@study
def dropout_schedule(scale: Scale) -> StudyConfig:
    """Dropout in all steps, in the first half, and in none: on text read about twenty times, and on text read once."""
    size, repetition = SIZES[scale.name], REPETITIONS[scale.name]
    study = assemble_scored(
        scale,
        "dropout-schedule",
        "Does dropout help where text is repeated, and hurt where it is not?",
        {"plain": {}},
        sizes=(repetition.few, repetition.many),
        pretrain=size.pretrain.model_copy(update={"steps": repetition.steps}),
    )
    return _with_arms(
        study,
        {
            "none": Arm(pretrain={"dropout": 0.0}),
            "constant": Arm(pretrain={"dropout": DROPOUT}),
            "early": Arm(pretrain={"dropout": DROPOUT, "dropout_schedule": "early"}),
        },
    )


def _with_arms(study: StudyConfig, arms: dict[str, Arm]) -> StudyConfig:
    fields = {name: getattr(study, name) for name in StudyConfig.model_fields}
    return StudyConfig.model_validate({**fields, "arms": arms})


def _operations(scale: Scale, size: Size, study: StudyConfig, changes: dict[str, Any]) -> float:
    """Of a step, for each full row: the vocabulary's size is what it is at most."""
    pretrain = type(study.pretrain).model_validate({**dict(study.pretrain), **changes})
    vocabulary = size.vocab_size or scale.vocab_size or BERTS_VOCABULARY
    return pretraining_flops(study.architectures[0], pretrain, study.max_length, vocabulary)
