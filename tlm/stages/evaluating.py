"""What a stage has that evaluates a study's models because the study asks for it (`StudyConfig.evaluations`).

Such a stage lives in a module of its own, here or in an extension: its configuration, a subclass of `Evaluation`, and its
class. If it writes `predictions.parquet` as the table PREDICTIONS, in the role "predicts", its accuracy stands beside all
others in the catalogue and in the report.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from tlm.errors import UserError
from tlm.stages.base import STAGES, Stage
from tlm.stages.finetune import Finetune
from tlm.stages.pretrain import Pretrain
from tlm.stages.tokenizer import Tokenizer
from tlm.study.config import Evaluation, StudyConfig


@dataclass(frozen=True)
class Models:
    """The models of a study, and what they read with."""

    study: StudyConfig
    tokenizer: Tokenizer
    pretrained: tuple[Pretrain, ...]
    finetuned: tuple[Finetune, ...]
    identify: Callable[[Any], dict[str, Any]]
    """The configuration of a benchmark, a source or a tokenizer → what identifies its content."""


class Evaluating(Stage):
    """A stage that evaluates models. `asked_by` is the configuration in a study by which it is asked for."""

    asked_by: ClassVar[type[Evaluation]]

    @classmethod
    @abstractmethod
    def wanted(cls, asked: Evaluation, models: Models) -> Iterator[Stage]:
        """The stages that answer what a study asked: one for each model that it is about, and others if it needs them."""


def evaluations(models: Models) -> Iterator[Stage]:
    """The stages of every evaluation that a study asks for, in its order. UserError for one that no stage does."""
    answering = {kind.asked_by: kind for kind in STAGES.values() if issubclass(kind, Evaluating)}
    for asked in models.study.evaluations:
        if type(asked) not in answering:
            raise UserError(f"evaluations: no stage does {asked.kind!r}.", "Name the module of one in TLM_EXTENSIONS.")
        yield from answering[type(asked)].wanted(asked, models)
