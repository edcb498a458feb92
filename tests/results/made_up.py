"""Evidence with a known truth: the marts that `Evidence` reads, filled with correctness drawn at a chosen accuracy.

    evidence = (
        MadeUp(study(sizes=(0, 100, 400)))
        .finetuned("topics", "shallow", 0, 0.50)
        .finetuned("topics", "shallow", 400, 0.60, type_overlap=0.9)
        .evidence()
    )

What is drawn depends on what it is of (task, system, Ws, treatment) and on `seed`, never on the order of the calls.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import norm

from tlm.artifacts import catalogue
from tlm.report.evidence import Evidence
from tlm.report.findings import Findings, Outcome
from tlm.study.config import StudyConfig

ITEMS = 600
LABELS = 4
SEEDS = 3
SPREAD = 0.01
"""Standard deviation of the accuracy over seeds."""
SHARED = 0.7
"""How much of whether an item is got right is the item's own, the same for every system of a task; the rest is noise."""

TABLES = ("results", "predictions", "committee_instances", "near_duplicates", "runs", "overlap", "token_counts")
TEXTS = {
    *("key", "kind", "task", "system", "arch", "rule", "init", "treatment", "treatment_task", "committee", "baseline"),
    *("stage", "slug", "version", "config", "inputs", "facts", "setting", "pretrain_setting", "part", "item_id"),
    *(
        "token",
        "task_key",
        "task_tokens_key",
        "mlflow_run_id",
        "mlflow_experiment_id",
        "corpus_key",
        "pretrain_key",
        "study",
        "git_commit",
        "path",
        "created",
    ),
}
INTEGERS = {
    *("ws", "size", "instance", "hits", "ngrams", "pretrain_seed", "finetune_seed", "corpus_seed", "members"),
    *("parameters", "test_items", "label", "prediction", "bytes"),
    *("token_id", "corpus_count", "corpus_documents", "task_count", "task_documents"),
}


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

    def __init__(self, config: StudyConfig, *, items: int = ITEMS, seed: int = 0) -> None:
        self.study, self.items, self.seed = config, items, seed
        self.rows: dict[str, list[dict[str, Any]]] = {table: [] for table in TABLES}

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
            right_N = self._draw(task, accuracy, spread, key, shared_seed=(*what, pretrain) if tunings else ())
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
            self.rows["committee_instances"].append({**row, "correct": right_N.tolist()})
        self.rows["results"] = [row for row in self.rows["results"] if row["key"] != key]
        self.rows["predictions"] = [row for row in self.rows["predictions"] if row["key"] != key]
        self._result(key, "committee", task, name, right_N, ws=ws, rule="soft", members=size * instances, **recorded)
        return self

    def duplicates(self, task: str, ws: int, share: float, *, treatment: str | None = None) -> MadeUp:
        """`share` of the test items (the first ones) stand word for word in that pre-training set."""
        for item in range(self.items):
            hits = int(item < share * self.items)
            row = {"key": f"duplicates/{task}/{ws}/{treatment}", "task": task, "ws": ws, "treatment": treatment}
            self.rows["near_duplicates"].append(
                {**row, "part": "test", "item_id": _item(item), "ngrams": 5, "hits": hits}
            )
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
        self.rows["overlap"].append({**about, "part": "train", **train})
        for token, (corpus, used) in enumerate(counts):
            row = {"token_id": token, "token": f"token{token}", "corpus_count": corpus, "task_count": used}
            self.rows["token_counts"].append({**about, **row})
        return self

    def run(self, stage: str, facts: dict[str, Any] | None = None, **labels: Any) -> MadeUp:
        """A row of the mart `runs`: any other artifact, with its facts (a latency, say)."""
        key = f"{stage}/{len(self.rows['runs'])}"
        self.rows["runs"].append({"key": key, "stage": stage, "facts": json.dumps(facts or {}), **labels})
        return self

    def evidence(self) -> Evidence:
        connection = duckdb.connect()
        for table, rows in self.rows.items():
            schema = pa.schema([(name, _type(table, name)) for name in catalogue.column_descriptions(table)])
            connection.register("rows", pa.Table.from_pylist(rows, schema))
            connection.execute(f"create table {table} as select * from rows")
            connection.unregister("rows")
        return Evidence(connection, self.study)

    # --- inside ---

    def _draw(
        self, task: str, accuracy: float, spread: float, key: str, shared_seed: tuple[object, ...] = ()
    ) -> NDArray[np.bool_]:
        """(N,) by whether an item's ease, in part the task's and in part this run's, is enough."""
        own = self._generator(key)
        expected = accuracy + spread * (self._generator(*shared_seed) if shared_seed else own).standard_normal()
        ease_N = self._generator("items of", task).standard_normal(self.items)
        latent_N = np.sqrt(SHARED) * ease_N + np.sqrt(1 - SHARED) * own.standard_normal(self.items)
        return np.asarray(latent_N < norm.ppf(np.clip(expected, 1e-6, 1 - 1e-6)), dtype=bool)

    def _generator(self, *what: object) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(repr(what).encode())])

    def _result(
        self,
        key: str,
        kind: str,
        task: str,
        system: str,
        right_N: NDArray[np.bool_],
        *,
        rule: str | None = None,
        **more: Any,
    ) -> None:
        measured = {"accuracy": float(right_N.mean()), "test_items": len(right_N)}
        tracked = {"mlflow_run_id": f"run of {key}", "mlflow_experiment_id": "7"}
        about = {"key": key, "kind": kind, "task": task, "system": system, "rule": rule}
        self.rows["results"].append({**about, **measured, **tracked, **more})
        for item, right in enumerate(right_N):
            row = {"key": key, "kind": kind, "rule": rule, "task": task, "part": "test", "item_id": _item(item)}
            self.rows["predictions"].append({**row, "label": item % LABELS, "correct": bool(right)})


def _pairs(seeds: int, tunings: int) -> list[tuple[int, int]]:
    if tunings:
        return [(pretrain, finetune) for pretrain in range(seeds) for finetune in range(tunings)]
    return [(seed, seed) for seed in range(seeds)]


def _item(number: int) -> str:
    return f"item{number:05d}"


def _type(table: str, name: str) -> pa.DataType:
    if name == "correct":
        return pa.list_(pa.bool_()) if table == "committee_instances" else pa.bool_()
    if name == "logits":
        return pa.list_(pa.float32())
    if name in TEXTS:
        return pa.string()
    return pa.int64() if name in INTEGERS else pa.float64()
