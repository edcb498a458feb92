"""Evidence with a known truth: results drawn at a chosen accuracy (`tlm.results.made_up`), as analyses look them up.

evidence = (
    MadeUp(study(sizes=(0, 100, 400)))
    .finetuned("topics", "shallow", 0, 0.50)
    .finetuned("topics", "shallow", 400, 0.60, type_overlap=0.9)
    .evidence()
)
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from tlm.report.evidence import Evidence
from tlm.report.findings import Findings, Outcome
from tlm.results.made_up import MadeUpResults, Right, Shares
from tlm.study.config import StudyConfig

ITEMS = 600
LABELS = 4
SEEDS = 3
SPREAD = 0.01
"""Standard deviation of the accuracy over seeds."""
SHARED = Shares(task=0.7, system=0.0)
"""How much of whether an item is got right is the item's own, the same for every system of a task; the rest is noise."""


def study(
    *, sizes: tuple[int, ...] = (0, 100, 400), tasks: tuple[str, ...] = ("topics",), **changes: Any
) -> StudyConfig:
    """Architectures `deep` (six layers) and `shallow` (one); no treatment, no committee. `changes` replace fields."""
    files = {"kind": "files", "format": "csv", "path": "items.csv", "label_column": "label"}
    small = {"hidden_size": 8, "num_attention_heads": 2}
    tree: dict[str, Any] = {
        "name": "made-up",
        "corpus": {"source": files, "sizes": sizes, "heldout": 10},
        "tokenizer": {"kind": "wordpiece", "vocab_size": 256},
        "architectures": [
            {"name": "deep", **small, "num_hidden_layers": 6, "intermediate_size": 32},
            {"name": "shallow", **small, "num_hidden_layers": 1, "intermediate_size": 16},
        ],
        "tasks": [
            {"name": name, "source": files, "train_per_label": 5, "dev_per_label": 1, "test_per_label": 2, "seed": n}
            for n, name in enumerate(tasks)
        ],
        "pretrain": {"steps": 10},
        "finetune": {"epochs": 1},
        "pretrain_seeds": tuple(range(SEEDS)),
        "finetune_seeds": tuple(range(SEEDS)),
        "seeds": "paired",
        **changes,
    }
    return StudyConfig.model_validate(tree)


def outcome(findings: Findings, *words: str) -> Outcome:
    """Of the one verdict whose claim holds these words."""
    found = [verdict for verdict in findings.verdicts if all(word in verdict.claim for word in words)]
    assert len(found) == 1, [verdict.claim for verdict in findings.verdicts]
    return found[0].outcome


class MadeUp:
    """Collects what was "measured"; every method but `evidence` returns the object itself."""

    def __init__(self, config: StudyConfig, *, items: int = ITEMS, labels: int = LABELS, seed: int = 0) -> None:
        self.items, self.labels = items, labels
        self.results = MadeUpResults(config, seed=seed)

    def finetuned(
        self,
        task: str,
        system: str,
        ws: int,
        accuracy: float,
        *,
        treatment: str | None = None,
        seeds: int = SEEDS,
        tunings: int = 0,
        spread: float = SPREAD,
        **recorded: Any,
    ) -> MadeUp:
        """An architecture whose expected accuracy is `accuracy` (a share).

        Args:
            seeds: paired pre-training and fine-tuning seeds (from scratch: fine-tuning seeds).
            tunings: if given, each of `seeds` pre-trainings is fine-tuned so many times.
            recorded: columns of the mart `results`: type_overlap, heldout_loss, injected_tokens, parameters, …
        """
        what = (task, system, ws, treatment)
        for pretrain, finetune in _pairs(seeds, tunings):
            key = "/".join(map(str, ("finetune", *what, pretrain, finetune)))
            right_N = self._draw(task, accuracy, spread, key, seeded_by=(*what, pretrain) if tunings else None)
            seeded = {"pretrain_seed": pretrain if ws else None, "finetune_seed": finetune}
            about = {"init": "pretrained" if ws else "scratch", "arch": system, **seeded, **recorded}
            self._result(key, "finetune", task, system, right_N, ws=ws, treatment=treatment, **about)
        return self

    def baseline(self, task: str, name: str, accuracy: float) -> MadeUp:
        key = f"baseline/{task}/{name}"
        self._result(key, "baseline", task, name, self._draw(task, accuracy, 0.0, key))
        return self

    def committee(
        self,
        task: str,
        name: str,
        ws: int,
        size: int,
        accuracy: float,
        *,
        instances: int = SEEDS,
        spread: float = SPREAD,
        **recorded: Any,
    ) -> MadeUp:
        """Soft committees of `size` members that share none; call it for each size, the largest last (its result)."""
        key = f"committee/{task}/{name}/{ws}"
        for instance in range(instances):
            right_N = self._draw(task, accuracy, spread, f"{key}/{size}/{instance}")
            row = {"key": key, "committee": name, "task": task, "ws": ws, "size": size, "instance": instance}
            self.results.add("committee_instances", **row, correct=right_N)
        kept = [row for row in self.results.rows["results"] if row["key"] != key]
        self.results.rows["results"] = kept
        self._result(key, "committee", task, name, right_N, ws=ws, rule="soft", members=size * instances, **recorded)
        return self

    def duplicates(self, task: str, ws: int, share: float, *, treatment: str | None = None) -> MadeUp:
        """`share` of the test items (the first ones) stand word for word in that pre-training set."""
        about = {"key": f"duplicates/{task}/{ws}/{treatment}", "task": task, "ws": ws, "treatment": treatment}
        self.results.add("near_duplicates", **about, held=np.arange(self.items) < share * self.items)
        return self

    def overlap(
        self, task: str, ws: int, treatment: str | None, counts: list[tuple[int, int]], **train: float
    ) -> MadeUp:
        """Tokens of a pre-training set and a task.

        Args:
            counts: of each token, occurrences in the set and in the task.
            train: measures of the overlap with the task's training items.
        """
        about = {"key": f"overlap/{task}/{ws}/{treatment}", "task": task, "ws": ws, "treatment": treatment}
        self.results.add("overlap", **about, part="train", **train)
        for corpus, used in counts:
            self.results.add("token_counts", **about, corpus_count=corpus, task_count=used)
        return self

    def run(self, stage: str, facts: dict[str, Any] | None = None, **labels: Any) -> MadeUp:
        """A row of the mart `runs`: any other artifact, with its facts (a latency, say)."""
        key = f"{stage}/{len(self.results.rows['runs'])}"
        self.results.add("runs", key=key, stage=stage, facts=json.dumps(facts or {}), **labels)
        return self

    def evidence(self) -> Evidence:
        return self.results.evidence()

    # --- inside ---

    def _draw(
        self, task: str, accuracy: float, spread: float, key: str, seeded_by: tuple[Any, ...] | None = None
    ) -> Right:
        """(N,) by whether an item's ease, in part the task's and in part this run's, is enough."""
        margin = self.results.margin(task, self.items, accuracy, key, shares=SHARED, spread=spread, seeded_by=seeded_by)
        return np.asarray(margin > 0)

    def _result(self, key: str, kind: str, task: str, system: str, right_N: Right, **more: Any) -> None:
        tracked = {"mlflow_run_id": f"run of {key}", "mlflow_experiment_id": "7"}
        self.results.result(key, kind, task, system, right_N, labels=self.labels, **tracked, **more)


def _pairs(seeds: int, tunings: int) -> list[tuple[int, int]]:
    if tunings:
        return [(pretrain, finetune) for pretrain in range(seeds) for finetune in range(tunings)]
    return [(seed, seed) for seed in range(seeds)]
