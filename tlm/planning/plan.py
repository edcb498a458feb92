"""From a study to its steps.

The plan is complete before anything runs. It knows every step's key, so it can say what would run and what is cached, and
needs neither torch nor Prefect to say it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tlm.artifacts.lineage import descendants
from tlm.artifacts.step import Step
from tlm.data import benchmarks, sources
from tlm.errors import UserError
from tlm.machine.precision import Resolved, native_precision
from tlm.planning.graph import graph
from tlm.study.adapt import with_precision
from tlm.study.config import StudyConfig
from tlm.study.likelihood import BenchmarkConfig
from tlm.study.tokenizers import TokenizerConfig


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
        found = descendants({step.key: step.input_keys.values() for step in self.steps}, keys)
        return [step for step in self.steps if step.key in found]


def plan(study: StudyConfig, data_root: str, *, precision: Resolved | None = None) -> Plan:
    """Wire `study`. Reads only what identifies its sources (digests, versions).

    Args:
        precision: what "auto" means, if the study still has it (commands settle it before: `tlm.cost.precision.settled`);
            by default bfloat16 if this processor has instructions for it.

    Raises:
        UserError: if source or vocabulary files are missing, naming all of them.
    """
    study = with_precision(study, precision or native_precision("cpu"))
    identify = Identities(data_root)
    stages = graph(study, identify)
    identify.raise_errors()
    return Plan(study, tuple(stage.step for stage in stages))


class Identities:
    """What identifies the content of the sources, benchmarks and tokenizers that a graph asks for, each looked up once.

    What cannot be identified is noted in `errors`, so that one error names all that is missing, not just the first.
    """

    def __init__(self, data_root: str) -> None:
        self.data_root = data_root
        self.errors: list[UserError] = []
        self._known: dict[str, dict[str, Any]] = {}

    def __call__(self, config: Any) -> dict[str, Any]:
        place = f"{type(config).__name__} {config.model_dump_json()}"
        if place not in self._known:
            self._known[place] = self._identify(config, place)
        return self._known[place]

    def raise_errors(self) -> None:
        """One UserError of all that were noted, each problem once, if there were any."""
        if self.errors:
            problems = list(dict.fromkeys(error.problem for error in self.errors))
            raise UserError(" ".join(problems), self.errors[0].remedy)

    def _identify(self, config: Any, place: str) -> dict[str, Any]:
        try:
            if isinstance(config, TokenizerConfig):
                return config.content(self.data_root)
            if isinstance(config, BenchmarkConfig):
                return benchmarks.identity(config, self.data_root)
            return sources.identity(config, self.data_root)
        except UserError as error:
            self.errors.append(error)
            return {"unknown": place}
