"""What a model, or a committee of them, is worth once it is made smaller: each a study."""

from __future__ import annotations

from flows.studies.registry import assemble, study
from flows.studies.scales import Scale
from tlm.study.architecture import SHALLOW
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
        tasks=scale.tasks(*scale.committee_tasks),
        finetune_seeds=scale.crossed,
        seeds="crossed",
        committees=(CommitteeConfig(name="bert1", members=SHALLOW),),
        distillation=DistillationConfig(teacher="bert1", students=("bert1a",)),
    )
