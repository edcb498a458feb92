"""A search without any training: what a trial would reach is a formula, and its steps are records of that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.stages import Finetune
from tlm.study.config import StudyConfig
from tlm.tuning.config import TuningConfig
from tlm.tuning.objective import Cell, Measurement, Score
from tlm.tuning.search import Search, Trial, opened
from tlm.tuning.tune import tune

SPACE = {"rate": "log:1e-4:1", "depth": "int:1:6", "kind": "choice:good,bad"}


def accuracy(values: Mapping[str, Any], seed: int, task: str) -> float:
    """Best for a rate of 0.01, a depth of 4 and the good kind."""
    from math import log10

    gone = 0.1 * abs(log10(values["rate"]) + 2) + 0.05 * abs(values["depth"] - 4) + 0.2 * (values["kind"] == "bad")
    return 0.9 - gone + 0.01 * seed - (0.2 if task == "hard" else 0.0)


@dataclass(frozen=True)
class ToyRun:
    """A stage that is only its step, after that of the trial's data."""

    values: Mapping[str, Any]
    seed: int
    task: str

    @property
    def step(self) -> Step:
        config = {"values": dict(self.values), "seed": self.seed, "task": self.task}
        return Step(stage="finetune", version="0", config=config, slug=f"{self.task}-{self.seed}")

    def inputs(self) -> dict[str, ToyRun]:
        return {}


def measure(values: Any, seeds: int = 3) -> Measurement:
    if values["rate"] > 0.9:
        raise UserError("no such study")
    cells = {
        Cell("pretrained", 10, "one", task): tuple(ToyRun(values, seed, task) for seed in range(seeds))
        for task in ("easy", "hard")
    }
    return Measurement(cast("Mapping[Cell, tuple[Finetune, ...]]", cells))


@dataclass
class Toy:
    """A search in a folder, and all that it was told."""

    folder: Path
    config: TuningConfig
    told: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    """Keys of steps, once for each time that they were made."""
    diverges: Callable[[Mapping[str, Any]], bool] = lambda values: False
    start: Mapping[str, Any] | None = None

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(str(self.folder / "artifacts"))

    def open(self) -> AbstractContextManager[Search]:
        return opened(self.config, "ab" * 32, self.folder / "tuning", self.start)

    def run(self, trials: int = 10, **options: Any) -> bool:
        with self.open() as search:
            return tune(
                search, self.store, lambda v: cast(StudyConfig, v), measure, self.make, self, trials=trials, **options
            )

    def make(self, todo: Mapping[int, Sequence[Step]]) -> dict[str, str]:
        failed = {}
        for step in (step for steps in todo.values() for step in steps):
            if self.diverges(step.config["values"]):
                failed[step.key] = "it diverged"
            elif self.store.inspect(step.ref).status != "complete":
                self.made.append(step.key)
                config = step.config
                # The accuracy on test items is the opposite of that on dev items: whoever reads it chooses the worst.
                reached = accuracy(config["values"], config["seed"], config["task"])
                with self.store.lock(step.ref), self.store.draft(step.ref) as draft:
                    facts = {"dev_accuracy": reached, "test_accuracy": 1 - reached}
                    self.store.publish(step, draft, facts=facts, provenance={}, seconds=1.0)
        return failed

    def begins(self, trial: Trial) -> None:
        self.told.append(f"{trial.number} begins")

    def reports(self, trial: Trial, rung: int, rungs: int, score: Score) -> None:
        self.told.append(f"{trial.number} {rung + 1}/{rungs}")

    def ends(self, trial: Trial, state: str, score: Score | None, notes: Mapping[str, Any]) -> None:
        self.told.append(f"{trial.number} {state}")

    def outcome(self) -> list[tuple[int, str, dict[str, Any], float | None]]:
        """Of every trial: number, state, values, and its last value."""
        from tlm.tuning.result import _trial

        with self.open() as search:
            trials = [_trial(each) for each in search.trials()]
        return [(trial.number, trial.state, trial.values, trial.value) for trial in trials]


def toy(folder: Path, **changes: Any) -> Toy:
    start = changes.pop("start", None)
    config = {"name": "toy", "study": "none", "over": SPACE, "at_once": 3, "random_trials": 4, **changes}
    return Toy(folder, TuningConfig.model_validate(config), start=start)
