"""The pre-training sets and the systems of a study, in the order in which tables and plots show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tlm.study.architecture import Architecture
from tlm.study.config import StudyConfig
from tlm.study.distillation import DISTILLED

BASELINE_NAMES = {"tfidf": "TF-IDF", "majority": "majority class"}
"""As a reader knows them; a baseline that is not here goes by its own name."""


def svd_only(arch: str) -> str:
    """What the marts call an architecture that began with word vectors and nothing else."""
    return f"{arch}, SVD only"


def in_arm(arch: str, arm: str, budget: int | None) -> str:
    """What the marts call an architecture of an arm, at one of its budgets (None: it has but one, or from scratch)."""
    return f"{arch}, {arm}" + ("" if budget is None else f", {budget} steps")


def distilled(arch: str) -> str:
    """What the marts call a student of this architecture."""
    return in_arm(arch, DISTILLED, None)


def models(study: StudyConfig) -> list[str]:
    """What the marts call the study's pre-trained models: its architectures, or of each those of its arms."""
    names = [arch.name for arch in study.architectures]
    if not study.arms:
        return [*names, *(distilled(arch) for arch in (study.distillation.students if study.distillation else ()))]
    return [
        in_arm(name, arm, steps)
        for name in names
        for arm, own in study.arms.items()
        for steps in own.budgets or (None,)
    ]


@dataclass(frozen=True)
class Shape:
    """An architecture with the tokenizer that it reads, of which its parameters follow."""

    name: str
    architecture: Architecture
    study: StudyConfig
    """As it is trained in: its tokenizer and `max_length`."""
    arms: tuple[str | None, ...]
    """That train it so; None where the study has no arms."""

    def vocabulary(self, sizes: Mapping[tuple[str, str | None], int]) -> int | None:
        """Tokens of its vocabulary, from what models of (architecture, arm) were trained with; None if none is there."""
        return next(
            (sizes[self.architecture.name, arm] for arm in self.arms if (self.architecture.name, arm) in sizes), None
        )


def shapes(study: StudyConfig) -> list[Shape]:
    """Every architecture once with each tokenizer: those of arms beside the study's own, where an arm reads otherwise."""
    otherwise = [name for name, arm in study.arms.items() if arm.tokenizer or arm.max_length or arm.architectures]
    plain = tuple(name for name in study.arms if name not in otherwise) if study.arms else (None,)
    found = {_reads(arch, study): Shape(arch.name, arch, study, plain) for arch in study.architectures if plain}
    for arm, _, own in study.in_arms():
        for arch in own.architectures if arm in otherwise else ():
            new = Shape(in_arm(arch.name, arm, None), arch, own, ())
            known = found.get(_reads(arch, own), new)
            found[_reads(arch, own)] = replace(known, arms=tuple(dict.fromkeys((*known.arms, arm))))
    return list(found.values())


def _reads(arch: Architecture, study: StudyConfig) -> tuple[Architecture, str, int]:
    return arch, study.tokenizer.model_dump_json(), study.max_length


def svd_models(study: StudyConfig) -> list[str]:
    """What the marts call those that began with word vectors and nothing else; none if the study does not have them."""
    if not study.svd_arm:
        return []
    names = [arch.name for arch in study.architectures]
    arms = [in_arm(name, arm, None) for name in names for arm in study.arms]
    return [svd_only(name) for name in (arms if study.arms else names)]


def corpora(study: StudyConfig, task: str) -> list[tuple[int, str | None]]:
    """(Ws, treatment) of every pre-training set that models of this task start from, each with its treatments."""
    found: list[tuple[int, str | None]] = []
    for ws in sorted({*study.corpus.sizes, *(treatment.ws for treatment in study.treatments)}):
        found += [(ws, None)] if ws in study.corpus.sizes else []
        labels = [each.label for each in study.treatments if each.ws == ws and each.task in (task, None)]
        found += [(ws, label) for label in dict.fromkeys(labels)]
    return found


def systems(study: StudyConfig) -> list[tuple[str, dict[str, Any]]]:
    """(heading, what to look for in the mart `gaps`) of everything that was measured, in the study's order."""
    from tlm.evaluation.committee import RULES  # brings numpy, which a plan does not need

    found: list[tuple[str, dict[str, Any]]] = [
        (name, {"kind": "finetune", "system": name}) for name in (*models(study), *svd_models(study))
    ]
    for committee in study.committees:
        for rule in RULES:
            found.append((f"{committee.name} ({rule})", {"kind": "committee", "system": committee.name, "rule": rule}))
    found += [(BASELINE_NAMES.get(name, name), {"kind": "baseline", "system": name}) for name in study.baselines]
    return found


def deepest(study: StudyConfig) -> str:
    """The architecture that committees are set beside: the one with the most layers, the first of equals."""
    return max(study.architectures, key=lambda arch: arch.num_hidden_layers).name
