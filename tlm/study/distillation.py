"""Distillation: a student is fine-tuned towards what a committee answers, at the latency of one model."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from tlm.study.base import Frozen, Name
from tlm.study.checks import known, unique

DISTILLED = "distilled"
"""The arm that students are in: it stands in tables behind the name of their architecture."""


class Distillation(Frozen):
    """What a student minimises: (1 - alpha) · CE + alpha · T² · KL(teacher_T ‖ student_T) (arXiv 1503.02531).

    teacher_T is the mean of the members' probabilities, each member's logits divided by the temperature T first: at T = 1
    the soft committee's own.
    """

    alpha: Annotated[float, Field(gt=0, le=1)] = Field(
        0.9, description="weight of the teacher; the labels have the rest"
    )
    temperature: Annotated[float, Field(gt=0)] = Field(2.0, description="T: logits of both are divided by it")


class DistillationConfig(Distillation):
    """Students of a committee. Each is the twin of one fine-tuning of its architecture: the same beginning, seed and items,
    with the committee as teacher whose members have the same seeds.
    """

    teacher: Name = Field(description="one of the study's committees; of one architecture, it is a single model")
    students: tuple[Name, ...] = Field(min_length=1, description="architectures")

    @property
    def loss(self) -> Distillation:
        return Distillation.model_validate(self.model_dump(include=set(Distillation.model_fields)))


def check_students(asked: DistillationConfig | None, committees: list[Any], architectures: list[Any]) -> None:
    """ValueError if a teacher is none of a study's committees, or a student none of its architectures."""
    if asked is not None:
        known("distillation.teacher", [asked.teacher], committees)
        known("distillation.students", unique("distillation.students", asked.students), architectures)
