"""How well a study will tell its answers, before it runs: its results are drawn, and its own analysis is run on them.

What is drawn varies over seeds and items as results have varied so far (`tlm.results.variances`); what comes of it is the
half-width of each verdict, the median over a few rehearsals. Which way verdicts fall is not foretold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np

from tlm.artifacts.step import Label, Step
from tlm.evaluation.committee import disjoint
from tlm.report.findings import NOT_MEASURED, PURE, Unit, Verdict
from tlm.report.options import benchmarks_of
from tlm.report.study_systems import in_arm, svd_only
from tlm.results import find
from tlm.results.made_up import MadeUpResults, Margin
from tlm.results.overlap_predictor import MEASURES
from tlm.results.variances import SEED_DEVIATION, Variances
from tlm.study.config import StudyConfig
from tlm.study.soups import SOUP
from tlm.study.treatments import MissingTokens, Sampled, Treatment

REHEARSALS = 5
OF_COMPRESSION = 0.1
"""How much compression moves an item's margin: a guess."""
FLOPS_A_STEP = 1e9
"""Of pre-training, made up: what is measured of arms is how many times more operations one takes than another."""
SCORE = 0.6
"""By likelihood, of every model: a guess."""
OF_LAYERS = 0.5
"""Layers, and operations, that tokens use which leave at an exit: a guess."""
PARADIGMS, OPTION_ITEMS = 67, 500
"""Units of a benchmark's score where it is a mean over groups (BLiMP), and over items."""
Items = Mapping[str, Mapping[str, int]]
"""By task: `labels`, and the number of `test` items."""


@dataclass(frozen=True)
class Expected:
    """One verdict of a study, and how well it will be told."""

    claim: str
    unit: Unit
    half_width: float | None
    """Of the 95 % interval, in `unit`; None where there will be none, or where it depends on what only the run knows."""
    missing: str = ""
    """Why there will be no half-width."""


def rehearse(
    study: StudyConfig, steps: Iterable[Step], items: Items, variances: Variances, *, rehearsals: int = REHEARSALS
) -> list[Expected]:
    """Every verdict of a study with the half-width to expect; none if it names no analysis.

    Args:
        steps: those of its plan (`tlm.planning.plan.Plan.steps`).
        items: of its tasks.
        rehearsals: how often it is drawn, each time by another seed.
    """
    if study.analysis is None:
        return []
    every = list(steps)
    found: dict[str, list[Verdict]] = {}
    for seed in range(rehearsals):
        evidence = _drawn(study, every, items, variances, seed).evidence()
        with evidence.connection:
            for verdict in find(evidence).verdicts:
                found.setdefault(verdict.claim, []).append(verdict)
    return [_expected(claim, verdicts) for claim, verdicts in found.items()]


def _expected(claim: str, verdicts: list[Verdict]) -> Expected:
    unit = verdicts[-1].unit
    if unit in PURE:
        return Expected(claim, unit, None, "depends on more than seeds and items: on what is measured")
    if widths := [verdict.half_width for verdict in verdicts if verdict.half_width is not None]:
        return Expected(claim, unit, median(widths))
    if verdicts[0].outcome == NOT_MEASURED:
        return Expected(claim, unit, None, f"{NOT_MEASURED}: {verdicts[0].figure}")
    return Expected(claim, unit, None, "no interval: one seed")


# --- what is drawn ---


def _drawn(study: StudyConfig, steps: list[Step], items: Items, variances: Variances, seed: int) -> MadeUpResults:
    made = MadeUpResults(study, seed=seed)
    treatments = {(each.ws, each.label): each for each in study.treatments}
    crossed = study.seeds == "crossed" and len(study.finetune_seeds) > 1
    margins: dict[str, Margin] = {}
    for step in steps:
        task, labels = str(step.labels.get("task")), step.labels
        if step.stage == "finetune":
            margins[step.key] = _finetuned(made, step, items[task], variances, treatments, crossed)
        elif step.stage == "baseline":
            name = str(labels["baseline"])
            accuracy = variances.baseline(task, name)
            margin = made.margin(
                task, items[task]["test"], accuracy, step.key, shares=variances.shares(task), system=name
            )
            made.result(step.key, "baseline", task, name, margin > 0, labels=items[task]["labels"])
        elif step.stage in ("committee", "soup"):
            members = [margins[ref.key] for _, ref in sorted(step.inputs.items()) if ref.key in margins]
            combined = _committee if step.stage == "committee" else _soup
            combined(made, step, np.array(members), items[task]["labels"])
        elif step.stage == "compress":
            _compressed(made, step, margins[step.inputs["model"].key], items[task]["labels"])
        elif step.stage == "overlap":
            _overlap(made, step, treatments)
        elif step.stage == "likelihood":
            _scored(made, step)
    return made


def _finetuned(
    made: MadeUpResults,
    step: Step,
    items: Mapping[str, int],
    variances: Variances,
    treatments: Mapping[tuple[int, str], Treatment],
    crossed: bool,
) -> Margin:
    labels = step.labels
    task, arch, ws = str(labels["task"]), str(labels["arch"]), int(labels["ws"] or 0)
    treatment = None if labels.get("treatment") is None else str(labels["treatment"])
    arm, budget = labels.get("arm"), labels.get("budget")
    name = _system(labels)
    name = svd_only(name) if labels.get("init") == "svd" else name
    system = (name, ws, treatment)
    # Fine-tunings of one pre-training deviate alike here: of two parts of their variance that is the one that costs more.
    seed = labels.get("pretrain_seed")
    together = (task, *system, seed) if seed is not None and crossed else None
    margin = made.margin(
        task,
        items["test"],
        variances.accuracy(task, name, ws, treatment),
        step.key,
        shares=variances.shares(task),
        spread=variances.deviation(task, name, pretrained=ws > 0),
        seeded_by=together,
        system=system,
    )
    seeds = {"pretrain_seed": seed, "finetune_seed": labels["finetune_seed"]}
    about = {"arch": arch, "ws": ws, "treatment": treatment, "init": labels.get("init"), **seeds}
    about |= {"arm": arm, "budget": budget, "pretrain_flops": FLOPS_A_STEP * int(budget) if budget else None}
    if ws:
        about |= {**_measures(made, ws, treatment), "injected_tokens": _removed(treatments.get((ws, treatment or "")))}
    made.result(step.key, "finetune", task, name, margin > 0, labels=items["labels"], **about)
    return margin


def _scored(made: MadeUpResults, step: Step) -> None:
    """A model's scores on a benchmark: how they vary is assumed, for no study that has run is asked."""
    labels, title = step.labels, str(step.labels["task"])
    asked = next(each for each in benchmarks_of(made.study) if each.title == title)
    groups = asked.data.average == "groups"
    leaves = step.inputs["scores"].stage == "exit_scores"
    used = {"layers": OF_LAYERS, "flops_share": OF_LAYERS} if leaves else {}
    made.options(
        title,
        str(step.config["normalization"]),
        _system(labels),
        SCORE,
        ws=int(labels["ws"] or 0),
        seed=int(labels["pretrain_seed"] or 0),
        groups=groups,
        units=PARADIGMS if groups else OPTION_ITEMS,
        spread=SEED_DEVIATION,
        **used,
    )


def _system(labels: Mapping[str, Label]) -> str:
    """What the marts call a model with these labels."""
    arch, arm, budget = str(labels["arch"]), labels.get("arm"), labels.get("budget")
    return in_arm(arch, str(arm), None if budget is None else int(budget)) if arm else arch


def _removed(treatment: Treatment | None) -> int | None:
    """Distinct tokens that an injection removes; of a share it is not known, but one share is less than another."""
    if not isinstance(treatment, MissingTokens):
        return None
    return treatment.count or round(1_000 * (treatment.share or 0))


def _measures(made: MadeUpResults, ws: int, treatment: str | None) -> dict[str, float]:
    """Measures of overlap that rise with Ws, and differ a little by treatment."""
    varied = made.generator("overlap", ws, treatment).standard_normal(len(MEASURES))
    return {name: 0.05 * float(np.log(ws)) + 0.01 * more for name, more in zip(MEASURES, varied, strict=True)}


def _committee(made: MadeUpResults, step: Step, margins_MN: Margin, labels: int) -> None:
    """Soft committees of every size that share no member: each has the mean of its members' margins."""
    task, name, ws = str(step.labels["task"]), str(step.labels["committee"]), int(step.labels["ws"] or 0)
    about = {"key": step.key, "committee": name, "task": task, "ws": ws}
    for size in range(1, len(margins_MN) + 1):
        for instance, own in enumerate(disjoint(len(margins_MN), size)):
            right_N = margins_MN[own].mean(axis=0) > 0
            made.add("committee_instances", **about, size=size, instance=instance, correct=right_N)
    whole_N = margins_MN.mean(axis=0) > 0
    made.result(step.key, "committee", task, name, whole_N, labels=labels, ws=ws, rule="soft", members=len(margins_MN))


def _soup(made: MadeUpResults, step: Step, margins_MN: Margin, labels: int) -> None:
    """As the soft committee of its members."""
    task, arch, own = str(step.labels["task"]), str(step.labels["arch"]), step.labels
    about = {"arch": arch, "arm": SOUP, "init": own["init"], "ws": own["ws"], "pretrain_seed": own["pretrain_seed"]}
    right_N = margins_MN.mean(axis=0) > 0
    made.result(step.key, "soup", task, in_arm(arch, SOUP, None), right_N, labels=labels, **about)


def _compressed(made: MadeUpResults, step: Step, margin_N: Margin, labels: int) -> None:
    """As the model that it was made of, but for items about which that is nearly undecided."""
    own = step.labels
    right_N = margin_N + OF_COMPRESSION * made.generator("compressed", step.key).standard_normal(len(margin_N)) > 0
    about = {name: own[name] for name in ("arch", "arm", "init", "ws", "pretrain_seed", "finetune_seed") if name in own}
    made.result(step.key, "compress", str(own["task"]), _system(own), right_N, labels=labels, **about)


def _overlap(made: MadeUpResults, step: Step, treatments: Mapping[tuple[int, str], Treatment]) -> None:
    """Of sets with a level: equally covered, and the more tokens that the task never uses the higher the level."""
    ws, label = int(step.labels["ws"] or 0), step.labels.get("treatment")
    treatment = treatments.get((ws, str(label)))
    level = treatment.level if isinstance(treatment, Sampled) else None
    about = {"key": step.key, "task": step.labels["task"], "ws": ws, "treatment": label}
    made.add("overlap", **about, part="train", type_overlap=1.0)
    made.add("token_counts", **about, corpus_count=1_000, task_count=1)
    made.add("token_counts", **about, corpus_count=100 + round(100 * (level or 0.0)), task_count=0)
