"""The paper's results, each a study (arXiv 2507.14871)."""

from __future__ import annotations

from flows.studies.registry import assemble, study
from flows.studies.scales import TASKS, Scale
from tlm.study.architecture import SHALLOW
from tlm.study.config import CommitteeConfig, StudyConfig
from tlm.study.treatments import MissingTokens, Sampled, Treatment


@study
def ws_sweep(scale: Scale) -> StudyConfig:
    """Accuracy and the gap against Ws, on three tasks (Table 3)."""
    return assemble(
        scale,
        "ws-sweep",
        "How does the gap of pre-training depend on Ws?",
        corpus=scale.corpus(*scale.sizes),
        architectures=scale.architectures("bert6", "bert1"),
        architecture_sizes={"bert6": scale.deep_sizes} if scale.deep_sizes else {},
        tasks=scale.tasks(*TASKS),
    )


@study
def missing_tokens(scale: Scale) -> StudyConfig:
    """At fixed Ws, ever more of the task's tokens removed from the pre-training set (Table 4)."""
    return assemble(
        scale,
        "missing-tokens",
        "What do missing tokens cost at fixed Ws?",
        corpus=scale.corpus(*(ws for ws in scale.sizes if ws <= scale.ws)),
        architectures=scale.architectures("bert1"),
        tasks=scale.tasks(scale.one_task),
        treatments=removals(scale),
        **scale.of_one_layer(),
    )


@study
def committee(scale: Scale) -> StudyConfig:
    """Soft committees of one-layer variants against the six-layer model and committees of it (Table 8)."""
    return assemble(
        scale,
        "committee",
        "Can a soft committee of shallow models replace a deep one?",
        corpus=scale.corpus(scale.largest),
        architectures=scale.architectures("bert6", *SHALLOW),
        tasks=scale.tasks(*TASKS),
        finetune_seeds=scale.crossed,
        seeds="crossed",
        committees=(CommitteeConfig(name="bert1", members=SHALLOW), CommitteeConfig(name="bert6", members=("bert6",))),
    )


@study
def custom_corpus(scale: Scale) -> StudyConfig:
    """Pre-training sets chosen for the task, and against it, at equal Ws."""
    return assemble(
        scale,
        "custom-corpus",
        "Is a pre-training set that is chosen for the task better than a random one?",
        corpus=scale.corpus(0, scale.small_ws),
        architectures=scale.architectures("bert1"),
        tasks=scale.tasks(scale.one_task),
        treatments=choices(scale),
        **scale.of_one_layer(),
    )


def removals(scale: Scale) -> tuple[Treatment, ...]:
    """Every number of tokens by every selection; the middle one also by the other ways to remove."""
    made = [
        MissingTokens(task=scale.one_task, ws=scale.ws, count=count, selection=selection)
        for selection in ("random", "most_frequent")
        for count in scale.injected
    ]
    middle = scale.injected[len(scale.injected) // 2]
    return (
        *made,
        MissingTokens(task=scale.one_task, ws=scale.ws, count=middle, removal="delete"),
        MissingTokens(task=scale.one_task, ws=scale.ws, count=scale.injected[0], selection="rarest", removal="drop"),
    )


def choices(scale: Scale) -> tuple[Treatment, ...]:
    samplers = ("coverage", "weighted_coverage", "bm25", "least_overlap")
    return tuple(Sampled(task=scale.one_task, ws=scale.small_ws, sampler=sampler) for sampler in samplers)
