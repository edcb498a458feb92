"""What a model, or a committee of them, is worth once it is made smaller: each a study."""

from __future__ import annotations

from flows.studies.registry import assemble, study
from flows.studies.scales import TASKS, Scale
from tlm.study.architecture import SHALLOW
from tlm.study.compression import Compression
from tlm.study.config import CommitteeConfig, StudyConfig
from tlm.study.distillation import DistillationConfig


@study
def committee_distillation(scale: Scale) -> StudyConfig:
    """A committee of one-layer variants as the teacher of one of them, whose members the study `committee` trains."""
    return assemble(
        scale,
        "committee-distillation",
        "Does a student keep a committee's advantage at one model's latency?",
        corpus=scale.corpus(scale.largest),
        architectures=scale.architectures(*SHALLOW),
        tasks=scale.tasks(*TASKS),
        finetune_seeds=scale.crossed,
        seeds="crossed",
        committees=(CommitteeConfig(name="bert1", members=SHALLOW),),
        # By the dev accuracy of a few students: members are so sure of what they were trained on that T = 2 says little.
        distillation=DistillationConfig(teacher="bert1", students=("bert1a",), alpha=0.9, temperature=4.0),
    )


@study
def weight_soup(scale: Scale) -> StudyConfig:
    """The mean of the weights of several fine-tunings of one pre-trained model, beside their soft committee."""
    return assemble(
        scale,
        "weight-soup",
        "Does a mean of weights do what a soft committee of the same members does?",
        corpus=scale.corpus(scale.largest),
        architectures=scale.architectures("bert1"),
        tasks=scale.tasks(*TASKS),
        **(scale.of_one_layer() | {"finetune_seeds": scale.crossed}),
        seeds="crossed",
        committees=(CommitteeConfig(name="bert1", members=("bert1",)),),
        soups=("bert1",),
    )


@study
def compression(scale: Scale) -> StudyConfig:
    """Models of one layer whose weights take a byte each, or of which half is taken out, without further training."""
    return assemble(
        scale,
        "compression",
        "What do int8 and pruning cost, and what do they save?",
        corpus=scale.corpus(scale.largest),
        architectures=scale.architectures("bert1"),
        tasks=scale.tasks(*TASKS),
        evaluations=(
            Compression(method="int8"),
            Compression(method="magnitude", share=0.5),
            Compression(method="wanda", share=0.5),
            Compression(method="neurons", share=0.5),
            Compression(method="heads", share=0.5),
        ),
        **scale.of_one_layer(),
    )
