"""What a study names of the registries exists: samplers, ways to choose and to remove tokens, baselines, analyses.

A registry holds functions over arrays, and importing one takes most of a second. So only those are looked into whose names
in the study are not the fields' own defaults: `tlm plan` of a study that names nothing else stays as quick as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tlm.errors import UserError
from tlm.study.config import CorpusConfig, StudyConfig
from tlm.study.treatments import Removal


def check_registries(study: StudyConfig) -> None:
    """Raise UserError, naming the field and what there is, if one of the study's names is in no registry."""
    for field, name, registry in _named(study):
        if name not in registry:
            raise UserError(f"{field}: unknown {name!r}.", f"Choose from {sorted(registry)}.")
    if study.corpus.sampler != _default(CorpusConfig, "sampler"):
        _check_sampler(study.corpus.sampler, task=False, level=None)
    for treatment in study.treatments:
        if treatment.kind == "sampled":
            _check_sampler(treatment.sampler, task=True, level=treatment.level)


def _named(study: StudyConfig) -> Iterator[tuple[str, str, Mapping[str, object]]]:
    """Field, name, and the registry that it must be in; without names that are defaults."""
    samplers = [("corpus.sampler", study.corpus.sampler)]
    samplers += [("treatments.sampler", each.sampler) for each in study.treatments if each.kind == "sampled"]
    for field, name in samplers:
        if name != _default(CorpusConfig, "sampler"):
            from tlm.data.corpus import SAMPLERS

            yield field, name, SAMPLERS
    for treatment in study.treatments:
        if treatment.kind == "missing_tokens":
            if treatment.selection != _default(Removal, "selection"):
                from tlm.data.injection import SELECTIONS

                yield "treatments.selection", treatment.selection, SELECTIONS
            if treatment.removal != _default(Removal, "removal"):
                from tlm.data.injection import REMOVALS

                yield "treatments.removal", treatment.removal, REMOVALS
    for name in study.baselines:
        if name not in _default(StudyConfig, "baselines"):
            from tlm.evaluation.baselines import BASELINES

            yield "baselines", name, BASELINES
    if study.analysis:
        from tlm.results import ANALYSES

        yield "analysis", study.analysis, ANALYSES


def _default(model: Any, field: str) -> Any:
    return model.model_fields[field].default


def _check_sampler(name: str, *, task: bool, level: float | None) -> None:
    from tlm.data.corpus import check_sampler

    check_sampler(name, task=task, level=level)
