"""What a search maximises: mean dev accuracy of some of a study's fine-tunings. Test items are not even made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import Annotated

from pydantic import Field

from tlm.artifacts.step import Step
from tlm.errors import UserError
from tlm.planning.data import Identify, prepare
from tlm.planning.graph import Runs, in_order
from tlm.stages import Finetune
from tlm.study.base import Frozen, Name
from tlm.study.config import StudyConfig
from tlm.study.distillation import DISTILLED

FACT = "dev_accuracy"
"""What is read of a fine-tuning's record, and the only thing."""


@dataclass(frozen=True, order=True)
class Cell:
    """Fine-tunings that differ by their seeds alone."""

    arm: str
    ws: int
    architecture: str
    task: str

    def __str__(self) -> str:
        return f"{self.arm} {self.architecture} Ws={self.ws} {self.task}"


class Objective(Frozen):
    """Which fine-tunings count. They form cells of one arm, Ws, architecture and task, each of the same weight."""

    arms: tuple[Name, ...] = Field(
        ("pretrained",),
        min_length=1,
        description="what a fine-tuning starts from: pretrained, scratch, svd; distilled: students",
    )
    ws: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(None, description="default: the largest")
    architectures: tuple[Name, ...] | None = Field(None, description="default: all of them")
    tasks: tuple[Name, ...] | None = Field(None, description="default: all of them")

    def of(self, study: StudyConfig, identify: Identify) -> Measurement:
        """The fine-tunings of a study that count, treatments aside, on tasks without test items.

        Raises:
            UserError: if the study has none in an arm, or not the Ws, architecture or task that is asked for.
        """
        largest = max(study.corpus.sizes)
        wanted = {
            "ws": self.ws or ((largest,) if largest else ()),
            "architectures": self.architectures or tuple(a.name for a in study.architectures),
            "tasks": self.tasks or tuple(t.name for t in study.tasks),
        }
        cells: dict[Cell, list[Finetune]] = {}
        for stage in Runs(prepare(study, identify, test_items=False)).models(identify).finetuned:
            labels = stage.labels
            cell = Cell(
                DISTILLED if stage.teacher else str(labels["init"]),
                int(labels["ws"] or 0),
                str(labels["arch"]),
                str(labels["task"]),
            )
            if labels["treatment"] is None:
                cells.setdefault(cell, []).append(stage)
        _check("arms", self.arms, {cell.arm for cell in cells})
        _check("ws", wanted["ws"], {cell.ws for cell in cells if cell.ws})
        _check("architectures", wanted["architectures"], {cell.architecture for cell in cells})
        _check("tasks", wanted["tasks"], {cell.task for cell in cells})
        return Measurement(
            {
                cell: tuple(runs)
                for cell, runs in cells.items()
                if cell.arm in self.arms
                and (not cell.ws or cell.ws in wanted["ws"])
                and cell.architecture in wanted["architectures"]
                and cell.task in wanted["tasks"]
            }
        )


def _check(field: str, asked: tuple[object, ...], known: set[object] | set[str] | set[int]) -> None:
    if unknown := [each for each in asked if each not in known]:
        raise UserError(f"objective.{field}: the study has no {unknown[0]!r}.", f"It has {sorted(map(str, known))}.")


@dataclass(frozen=True)
class Measurement:
    """The fine-tunings that a trial is judged by: cell → its fine-tunings, one for each (pair of) seeds."""

    cells: Mapping[Cell, tuple[Finetune, ...]]

    @cached_property
    def rungs(self) -> tuple[tuple[Step, ...], ...]:
        """What is to be made, in order, for the first seed of every cell, then for the next: a trial may end after each."""
        made: set[str] = set()
        rungs = []
        for number in range(max(map(len, self.cells.values()), default=0)):
            wanted = [runs[number] for runs in self.cells.values() if number < len(runs)]
            steps = [stage.step for stage in in_order(wanted) if stage.step.key not in made]
            made |= {step.key for step in steps}
            rungs.append(tuple(steps))
        return tuple(rungs)

    @property
    def steps(self) -> list[Step]:
        return [step for rung in self.rungs for step in rung]

    def score(self, dev_accuracy: Callable[[Step], float], rungs: int) -> Score:
        """How good it is by the fine-tunings of the first `rungs`."""
        found = {cell: tuple(dev_accuracy(run.step) for run in runs[:rungs]) for cell, runs in self.cells.items()}
        return Score(found)


@dataclass(frozen=True)
class Score:
    """Dev accuracies (0 to 1) by cell."""

    cells: Mapping[Cell, tuple[float, ...]]

    @property
    def value(self) -> float:
        """The mean of the cells' means."""
        return fmean(fmean(values) for values in self.cells.values())

    @property
    def standard_error(self) -> float | None:
        """Of the value, by the seeds that every cell has; None for one. Items, which all trials share, are left out."""
        by_seed = [fmean(values) for values in zip(*self.cells.values(), strict=False)]
        return stdev(by_seed) / math.sqrt(len(by_seed)) if len(by_seed) > 1 else None

    @property
    def means(self) -> dict[str, float]:
        return {str(cell): fmean(values) for cell, values in self.cells.items()}
