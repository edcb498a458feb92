"""What a plan's training steps cost: optimiser steps, tokens, floating point operations. Imports no torch.

What is only known once a step's inputs are made (lengths, labels, the vocabulary) is taken from their records; where there
are none it is assumed, and the assumption is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from tlm.artifacts.step import ArtifactRef, Step
from tlm.data import sources
from tlm.data.sources.base import confine, read_json, read_label_names
from tlm.modeling.cost import TRAINING, between, pretraining_flops, sequences_seen
from tlm.modeling.families.base import family_of
from tlm.planning.plan import Plan
from tlm.study.architecture import Architecture
from tlm.study.base import Frozen
from tlm.study.config import FinetuneConfig, ItemSelection, PretrainConfig
from tlm.study.sources import Source
from tlm.study.tokenizers import TokenizerConfig

EVALUATIONS = 5
"""How often pre-training measures its held-out part: `tlm.training.pretrain.EVALUATIONS`, which needs torch."""
LENGTH_STEP = 4
"""Mean lengths are rounded to so many tokens before workloads are compared: one measurement serves similar corpora."""
PUBLISHED_LABELS = {"ag_news": 4, "dbpedia_14": 14, "train_wiki.json": 64, "val_wiki.json": 16}
"""Labels of a source on the Hub, by kind or by FewRel's file, as its authors state them."""

Facts = Mapping[str, Any]


class Workload(Frozen):
    """What sets the seconds of one optimiser step on a given device. Equal workloads are measured once."""

    architecture: Architecture
    pretrain: PretrainConfig | None = None
    finetune: FinetuneConfig | None = None
    max_length: int
    mean_length: int
    """Tokens of a sequence on average, [CLS] and [SEP] counted, rounded to a multiple of LENGTH_STEP."""
    vocab_size: int
    labels: int
    """Number of labels of a fine-tuning; 0 for pre-training."""

    @property
    def name(self) -> str:
        return f"{'pretrain' if self.pretrain else 'finetune'} {self.architecture.name}"

    @property
    def training(self) -> PretrainConfig | FinetuneConfig:
        training = self.pretrain or self.finetune
        assert training is not None
        return training

    def forward_flops(self, length: int) -> float:
        """Operations of the forward pass of one sequence of `length` tokens."""
        if self.pretrain is None:
            return family_of(self.architecture).classifier_flops(self.architecture, length, self.labels)
        return pretraining_flops(self.architecture, self.pretrain, length, self.vocab_size)


@dataclass(frozen=True)
class Cost:
    """What one training step of a plan takes."""

    workload: Workload
    steps: int
    """Optimiser steps."""
    sequences: int
    """Sequences trained on; each epoch counts them again."""
    tokens: int
    """Tokens trained on, [CLS] and [SEP] counted, padding not."""
    training_flops: float
    evaluation_flops: float

    @property
    def flops(self) -> float:
        return self.training_flops + self.evaluation_flops


@dataclass(frozen=True)
class Estimate:
    """The cost of each training step by its key, what its tasks hold, and what had to be assumed."""

    costs: Mapping[str, Cost]
    items: Mapping[str, Mapping[str, int]]
    """By task: the number of labels, and of items in train, dev and test."""
    assumptions: tuple[str, ...]


def estimate(planned: Plan, facts: Mapping[str, Facts], data_root: str) -> Estimate:
    """Cost every training step of a plan, those in the store too.

    Operations are those of the forward pass at the mean length, three times for a training step, once for an evaluation. At
    a mean length attention's part, which grows with the square, is slightly underestimated.

    Args:
        facts: of the artifacts that are in the store, by step key.
        data_root: where a vocabulary or the names of labels are looked up that no artifact tells.

    Raises:
        UserError: if those files are missing or unreadable.
    """
    known = _Known({step.key: step for step in planned.steps}, facts, data_root)
    cost = {"pretrain": _pretrain, "finetune": _finetune}
    costs = {step.key: cost[step.stage](step, known) for step in planned.steps if step.stage in cost}
    items = {str(step.labels["task"]): known.items(step) for step in planned.steps if step.stage == "task"}
    return Estimate(costs, items, tuple(known.assumptions))


def _pretrain(step: Step, known: _Known) -> Cost:
    config = PretrainConfig.model_validate(step.config["pretrain"])
    corpus = known.input(step, "corpus")
    items, heldout, length = int(step.labels["ws"] or 0), known.heldout(corpus), known.length(corpus)
    if config.packing:
        fits = step.config["max_length"] - 2
        if length is None:
            known.assume(f"lengths not known yet: assumed paragraphs of {fits} tokens, one to a packed row")
        paragraph = fits - 1 if length is None else length
        items, heldout = (math.ceil(n * (paragraph + 1) / fits) for n in (items, heldout))
        length = fits
    per_epoch = math.ceil(items / config.batch_size)
    steps = config.steps if config.steps is not None else (config.epochs or 0) * per_epoch
    steps = min(steps, config.max_steps or steps)
    moments = {round(steps * (i + 1) / EVALUATIONS) for i in range(EVALUATIONS)} - {0}
    model = _Model(step, known, length)
    return model.cost(
        Workload(**model.fields, pretrain=config),
        steps,
        sequences_seen(steps, items, config.batch_size),
        heldout * len(moments),
    )


def _finetune(step: Step, known: _Known) -> Cost:
    config = FinetuneConfig.model_validate(step.config["finetune"])
    items = known.items(known.input(step, "task"))
    per_epoch = math.ceil(items["train"] / config.batch_size)
    steps = min(config.epochs * per_epoch, config.max_steps or config.epochs * per_epoch)
    evaluated = (math.ceil(steps / per_epoch) + 1) * items["dev"] + items["test"]
    model = _Model(step, known, known.length(known.input(step, "tokens")), labels=items["labels"])
    sequences = sequences_seen(steps, items["train"], config.batch_size)
    return model.cost(Workload(**model.fields, finetune=config), steps, sequences, evaluated)


class _Model:
    """The model of a plan's training step, and the mean length of the sequences that it reads."""

    def __init__(self, step: Step, known: _Known, length: float | None, *, labels: int = 0) -> None:
        config = step.config
        self.length = known.assumed_length(config["max_length"]) if length is None else length + 2
        rounded = max(3, LENGTH_STEP * round(self.length / LENGTH_STEP))
        self.fields: dict[str, Any] = {
            "architecture": Architecture.model_validate({"name": step.labels["arch"], **config["architecture"]}),
            "max_length": config["max_length"],
            "mean_length": min(rounded, config["max_length"]),
            "vocab_size": known.vocab_size(known.input(step, "tokenizer")),
            "labels": labels,
        }

    def cost(self, workload: Workload, steps: int, sequences: int, evaluated: int) -> Cost:
        forward = between(workload.forward_flops, self.length)
        tokens = round(sequences * self.length)
        return Cost(workload, steps, sequences, tokens, TRAINING * sequences * forward, evaluated * forward)


@dataclass
class _Known:
    """What is known of a plan's steps: from records where there are some, else from the configuration, else by assumption.

    `assumptions` are the sentences that say so, in the order they were made.
    """

    steps: Mapping[str, Step]
    facts: Mapping[str, Facts]
    data_root: str
    assumptions: dict[str, None] = field(default_factory=dict)
    vocabularies: dict[str, int] = field(default_factory=dict)
    counted: dict[str, dict[str, int]] = field(default_factory=dict)

    def input(self, step: Step, name: str) -> Step:
        return self.steps[step.inputs[name].key]

    def fact(self, step: Step, name: str) -> Any:
        return self.facts.get(step.key, {}).get(name)

    def assume(self, text: str) -> None:
        self.assumptions[text] = None

    # --- lengths ---

    def length(self, step: Step) -> float | None:
        """Mean tokens of a sequence, specials not counted: the step's own, or that of what it is drawn from."""
        own = self.fact(step, "mean_length")
        if own is not None or "foreign" in step.inputs:  # of a mixture, neither part tells the mean
            return own
        nearest: ArtifactRef | None = step.inputs.get("corpus") or step.inputs.get("tokens")
        return self.length(self.steps[nearest.key]) if nearest else None

    def assumed_length(self, max_length: int) -> float:
        self.assume(f"lengths not known yet: assumed {max_length}, an upper bound")
        return max_length

    def heldout(self, corpus: Step) -> int:
        """Paragraphs of its held-out part, which a changed corpus has from the one it was made from."""
        while "heldout" not in corpus.config:
            corpus = self.input(corpus, "corpus")
        return int(corpus.config["heldout"])

    # --- items and labels ---

    def items(self, task: Step) -> dict[str, int]:
        """Number of labels, and of items in train, dev and test."""
        if task.key not in self.counted:
            self.counted[task.key] = self._count(task)
        return self.counted[task.key]

    def _count(self, task: Step) -> dict[str, int]:
        facts = self.facts.get(task.key)
        if facts is not None:
            return {key: int(facts[key]) for key in ("labels", "train", "dev", "test")}
        each = ItemSelection.model_validate(task.config)
        labels = each.labels or self.source_labels(self.input(task, "source"), each, str(task.labels["task"]))
        return {
            "labels": labels,
            "train": labels * (each.train_per_label - each.dev_per_label),
            "dev": labels * each.dev_per_label,
            "test": labels * each.test_per_label,
        }

    def source_labels(self, step: Step, each: ItemSelection, task: str) -> int:
        """Labels of a task's source: known, as published, at most as many as its items allow, or at least two."""
        names = self.fact(step, "label_names")
        source: Any = TypeAdapter(Source).validate_python(step.access["source"])
        certain = len(names) if names else _labels_without_reading(source, self.data_root)
        if certain:
            return certain
        published = PUBLISHED_LABELS.get(source.kind) or PUBLISHED_LABELS.get(getattr(source, "file", ""))
        if published:
            self.assume(f"{task}: {published} labels, as its authors state")
            return published
        rows = sources.count_hint(source, self.data_root)
        if rows is not None:
            most = max(2, rows // (each.train_per_label + each.test_per_label))
            self.assume(f"{task}: labels not known yet: at most {most:,}, as its {rows:,} items allow")
            return most
        self.assume(f"{task}: labels not known yet: assumed 2, a lower bound")
        return 2

    # --- vocabulary ---

    def vocab_size(self, step: Step) -> int:
        if step.key not in self.vocabularies:
            self.vocabularies[step.key] = self.fact(step, "vocab_size") or self._vocabulary_to_be(step)
        return self.vocabularies[step.key]

    def _vocabulary_to_be(self, step: Step) -> int:
        """Tokens of a tokenizer that has not been made yet."""
        size, assumption = TokenizerConfig.model_validate(step.access["tokenizer"]).vocabulary_size(self.data_root)
        if assumption:
            self.assume(assumption)
        return size


def _labels_without_reading(source: Any, data_root: str) -> int | None:
    """Labels of a source where its configuration or a small local file tells them."""
    if source.kind == "docstrings":
        return len(set(source.libraries))
    if getattr(source, "origin", "hub") == "hub":
        return None
    if source.kind in ("ag_news", "dbpedia_14"):
        path = f"{source.path}/labels.json"
        return len(read_label_names(confine(data_root, path), path))
    if source.kind != "few_rel":
        return None
    path = f"{source.path}/{source.file}"
    relations = read_json(confine(data_root, path), path)
    return len(relations) if isinstance(relations, dict) else None  # a list has no labels, which a run says
