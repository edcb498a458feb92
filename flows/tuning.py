"""A search from a file or from options of the command line: read, checked, opened."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flows.loading import Draft, explain, value_at
from flows.yaml_text import read_yaml_file
from tlm.cost.precision import choose, settled
from tlm.errors import UserError
from tlm.machine.precision import Resolved
from tlm.machine.runtime import Runtime
from tlm.planning.plan import Identities
from tlm.planning.preflight import check
from tlm.planning.registries import check_registries
from tlm.stages import STAGES
from tlm.study.adapt import with_precision
from tlm.study.base import slugify
from tlm.study.config import StudyConfig
from tlm.tuning.config import TuningConfig
from tlm.tuning.objective import Measurement
from tlm.tuning.search import Search, opened, search_key
from tlm.tuning.space import as_overrides

PLACES = 16
"""In the space, where a field is looked at that does not matter to the study as it is."""


@dataclass(frozen=True)
class Tuning:
    """A search that was checked: its configuration, and the study that its trials change."""

    config: TuningConfig
    draft: Draft
    base: StudyConfig
    runtime: Runtime

    def study_of(self, values: Mapping[str, Any]) -> StudyConfig:
        """The study of a trial. Raises UserError if there is none with such values."""
        overrides = [*as_overrides(self.config.set), *as_overrides(values)]
        overrides.sort(key=lambda each: not each.startswith("recipe="))  # first, so that all others win over it
        return self.draft.study(overrides)

    def measure(self, study: StudyConfig) -> Measurement:
        """What a study is judged by. Raises UserError if it lacks what the objective names."""
        check_registries(study)
        identify = Identities(self.runtime.data_root)
        if "auto" in (study.pretrain.precision, study.finetune.precision):
            study = with_precision(study, self.precision)
        measured = self.config.objective.of(study, identify)
        identify.raise_errors()
        return measured

    @cached_property
    def precision(self) -> Resolved:
        """What "auto" means to all trials: what it means to the study as it is."""
        return choose(self.base, self.runtime).precision

    @cached_property
    def start(self) -> dict[str, Any] | None:
        """The values that the study has by itself, if the space holds them all: those of the first trial."""
        full = self.base.model_dump(mode="json")
        found = {field: self._own_value(field, full) for field in self.config.space}
        return None if None in found.values() else found

    def _own_value(self, field: str, full: dict[str, Any]) -> Any:
        dimension = self.config.space[field]
        candidates = list(dimension.extremes())
        with suppress(UserError):  # a recipe stands for fields, and is none
            candidates.insert(0, value_at(full, field))
        inside = (value for value in candidates if value is not None and dimension.raw(value) is not None)
        return next((value for value in inside if self.study_of({field: value}) == self.base), None)

    @property
    def data(self) -> set[str]:
        """Keys of the steps that the study as it is needs before any training."""
        return {step.key for step in self.measure(self.base).steps if not STAGES[step.stage].trains}

    @contextmanager
    def search(self) -> Iterator[tuple[Search, str]]:
        """The search, for this process alone, and its key. Raises UserError if another process is at it."""
        measured = [run.step.key for runs in self.measure(self.base).cells.values() for run in runs]
        key = search_key(self.config, measured)
        with opened(self.config, key, self.runtime.tuning, self.start) as search:
            yield search, key


def load_tuning(
    name_or_file: str,
    runtime: Runtime,
    *,
    over: Mapping[str, str] | None = None,
    set_: Mapping[str, Any] | None = None,
    objective: Mapping[str, Any] | None = None,
    **options: Any,
) -> Tuning:
    """A search of a named study, a study's file, or a tuning study's file.

    Args:
        over: field → space; beside those of a file, or instead of them.
        set_: field → value, likewise.
        objective: fields of it, likewise.
        options: fields of `TuningConfig` that win over a file's, unless they are None.

    Raises:
        UserError: for an unknown study or field, a wrong value, or a space that holds values the study does not take.
    """
    content: dict[str, Any] = {"name": slugify(Path(name_or_file).stem), "study": name_or_file}
    folder = Path()
    if Path(name_or_file).suffix in (".yaml", ".yml"):
        found = read_yaml_file(Path(name_or_file))
        if isinstance(found, dict) and "over" in found:
            content, folder = found, Path(name_or_file).parent
    for field, more in (("over", over), ("set", set_), ("objective", objective)):
        if more and isinstance(content.get(field, {}), dict):
            content[field] = {**content.get(field, {}), **more}
    content |= {field: value for field, value in options.items() if value is not None}
    if not content.get("over"):
        raise UserError(
            f"{name_or_file}: nothing to tune.",
            "Name a field and its space: --over pretrain.learning_rate=log:1e-4:1e-2",
        )
    try:
        config = TuningConfig.model_validate(content)
    except ValidationError as error:
        raise UserError(explain(error, content, name_or_file), "`tlm tune --help` shows an example.") from error
    draft = _draft(config, name_or_file, folder)
    base = Tuning(config, draft, draft.study(), runtime).study_of({})
    tuning = Tuning(config, draft, base, runtime)
    _check_space(tuning)
    return tuning


def _draft(config: TuningConfig, place: str, folder: Path) -> Draft:
    if isinstance(config.study, dict):
        return Draft(f"{place}: study", config.study)
    is_file = Path(config.study).suffix in (".yaml", ".yml")
    return Draft.read(str(folder / config.study) if is_file else config.study, scale=config.scale, origin=config.origin)


def _check_space(tuning: Tuning) -> None:
    """Every field is one of the study's, and it takes the ends of its space."""
    for field, dimension in tuning.config.space.items():
        for value in dimension.extremes():
            try:
                tuning.study_of({field: value})
            except UserError as error:
                at, _, path = error.problem.partition("--set ")
                where = path if not at else f"{as_overrides({field: value})[0]}: {error.problem}"
                raise UserError(f"over {where}", error.remedy) from error


def check_tuning(tuning: Tuning) -> None:
    """Check the study as it is, as a run of it would, the objective, and that every field makes a difference to it.

    Raises:
        UserError: naming what is wrong.
    """
    check(tuning.base, tuning.runtime, settle=partial(settled, runtime=tuning.runtime))
    tuning.measure(tuning.base)
    for field in tuning.config.space:
        if not any(_matters(tuning, field, others) for others in _places(tuning, field)):
            raise UserError(
                f"over {field}: nothing that counts depends on it.",
                "A field of one architecture's own (learning_rates, finetune_learning_rates) wins over it, or it is about "
                "another arm: see `tlm show`.",
            )


def _places(tuning: Tuning, field: str) -> Iterator[dict[str, Any]]:
    """Values of the other fields: the study's own, then some in the space, where another choice may make a field matter."""
    yield {}
    generator = random.Random(0)  # noqa: S311 – nothing secret
    others = {other: list(space.extremes()) for other, space in tuning.config.space.items() if other != field}
    for _ in range(PLACES if others else 0):
        yield {other: generator.choice(values) for other, values in others.items()}


def _matters(tuning: Tuning, field: str, others: Mapping[str, Any]) -> bool:
    """Whether the trainings that count are others for other values of a field."""
    found = set()
    for value in tuning.config.space[field].extremes():
        with suppress(UserError):  # no study there
            steps = tuning.measure(tuning.study_of({**others, field: value})).steps
            found.add(tuple(step.key for step in steps))
    return len(found) > 1
