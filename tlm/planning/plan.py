"""From a study to its steps.

The plan is complete before anything runs. It knows every step's key, so it can say what would run and what is cached, and
needs neither torch nor Prefect to say it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from tlm.artifacts.step import Step
from tlm.data import sources
from tlm.data.tokenizer import tokenizer_identity
from tlm.errors import UserError
from tlm.machine.precision import Resolved, native_precision
from tlm.planning.wiring import Wiring
from tlm.study.adapt import with_precision
from tlm.study.config import StudyConfig


@dataclass(frozen=True)
class Plan:
    """A study's steps, each after its inputs. The last one is the report."""

    study: StudyConfig
    steps: tuple[Step, ...]

    @property
    def report(self) -> Step:
        return self.steps[-1]

    def below(self, keys: Iterable[str]) -> list[Step]:
        """The steps with these keys and every step that depends on them."""
        reached = set(keys)
        found = []
        for step in self.steps:
            if step.key in reached or reached & set(step.input_keys.values()):
                reached.add(step.key)
                found.append(step)
        return found


def plan(study: StudyConfig, data_root: str, *, precision: Resolved | None = None) -> Plan:
    """Wire `study`. Reads only what identifies its sources (digests, versions).

    Args:
        precision: what "auto" means (`Runtime.native_precision`); by default what it means on this processor.

    Raises:
        UserError: if source or vocabulary files are missing, naming all of them.
    """
    study = with_precision(study, precision or native_precision("cpu"))
    _check_files(study, data_root)
    wiring = Wiring(study, data_root)
    wiring.data()
    wiring.models()
    wiring.committees()
    wiring.baselines()
    wiring.report()
    return Plan(study, tuple(wiring.steps.values()))


def _check_files(study: StudyConfig, data_root: str) -> None:
    """Identify every source and the tokenizer, so that one error names all that is missing, not just the first."""
    errors: list[UserError] = []
    foreign = [treatment.source for treatment in study.treatments if treatment.kind == "foreign"]
    given = (study.corpus.source, *(task.source for task in study.tasks), *foreign)
    identify = [partial(sources.identity, source) for source in given]
    identify.append(partial(tokenizer_identity, study.tokenizer))
    for call in identify:
        try:
            call(data_root)
        except UserError as error:
            errors.append(error)
    if errors:
        problems = list(dict.fromkeys(error.problem for error in errors))
        raise UserError(" ".join(problems), errors[0].way_out)
