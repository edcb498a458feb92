"""A study whose artifacts are made up: every step of its plan is published with small, consistent outputs."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from tlm.artifacts.marts import Connection
from tlm.artifacts.record import Record
from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.planning.plan import Plan, plan
from tlm.study.config import StudyConfig

TEST_ITEMS, DEV_ITEMS, LABELS, TOKENS = 200, 40, 4, 60
TASK_TOKENS = 40
TABLE = "items.csv"
"""The one file of the data root."""
REMOVED = 5
RULES = ("soft", "logit", "vote")
MLFLOW = "http://127.0.0.1:5000"
PROVENANCE: dict[str, Any] = {
    "git_commit": "feed" * 10,
    "python": "3.11.0",
    "system": "Linux x86_64",
    "packages": {"torch": "2.13.0", "tlm": None},
}


class MadeUp(NamedTuple):
    study: StudyConfig
    store: ArtifactStore
    records: list[Record]
    connection: Connection


def study(data_root: Path, **changes: Any) -> StudyConfig:
    """Two tasks, two architectures, Ws 0, 100, 400, one treatment, one committee, two fine-tuning seeds."""
    data_root.mkdir(parents=True, exist_ok=True)
    table = data_root / TABLE
    if not table.exists():
        table.write_text("text,label\n" + "".join(f"some text {n},label{n % LABELS}\n" for n in range(40)))
    files = {"kind": "files", "format": "csv", "path": TABLE, "label_column": "label"}
    small = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2}
    settings: dict[str, Any] = {
        "name": "made-up",
        "title": "A made-up study",
        "corpus": {"source": files, "sizes": (0, 100, 400), "heldout": 10},
        "tokenizer": {"kind": "wordpiece", "vocab_size": 256},
        "architectures": [
            {"name": "deep", **small, "num_hidden_layers": 6, "intermediate_size": 32},
            {"name": "shallow", **small, "intermediate_size": 16},
        ],
        "tasks": [
            {"name": name, "source": files, "train_per_label": 5, "dev_per_label": 1, "test_per_label": 2, "seed": seed}
            for seed, name in enumerate(("topics", "relations"))
        ],
        "pretrain": {"steps": 10},
        "finetune": {"epochs": 1},
        "finetune_seeds": (0, 1),
        "treatments": [{"kind": "missing_tokens", "task": "topics", "ws": 400, "count": REMOVED}],
        "committees": [{"name": "pair", "members": ("deep", "shallow")}],
        **changes,
    }
    return StudyConfig.model_validate(settings)


def publish(
    config: StudyConfig, store: ArtifactStore, data_root: Path, *, tracked: bool = True, skip: tuple[str, ...] = ()
) -> list[Record]:
    """Publish an artifact for every step of the study but its report; return the records."""
    unnamed = config.model_copy(update={"name": "unnamed", "title": "", "scale": None, "analysis": None})
    made = _made(unnamed.model_dump_json(), (data_root / TABLE).read_text(), tracked, skip)
    shutil.copytree(made.root, store.root, dirs_exist_ok=True)
    steps = (step for step in plan(config, str(data_root)).steps if step.stage != "report" and step.stage not in skip)
    records = {record.key: record for record in made.records()}
    return [records[step.key] for step in steps]


@cache
def _made(config: str, table: str, tracked: bool, skip: tuple[str, ...]) -> ArtifactStore:
    """A study's artifacts, made once in a process for all tests that ask for them."""
    folder = Path(tempfile.mkdtemp(prefix="tlm-synthetic-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / TABLE).write_text(table)
    planned = plan(StudyConfig.model_validate_json(config), str(folder))
    store = ArtifactStore(str(folder / "artifacts"))
    for step in planned.steps:
        if step.stage != "report" and step.stage not in skip:
            publish_step(store, step, planned, tracked=tracked)
    return store


def publish_step(
    store: ArtifactStore, step: Step, planned: Plan, *, tracked: bool = True, facts: dict[str, Any] | None = None
) -> Record:
    outputs, made_up = _outputs(step, {other.key: other for other in planned.steps})
    with store.draft(step.ref) as draft:
        for name, frame in outputs.items():
            frame.to_parquet(draft / name, index=False)
        (draft / "note.txt").write_text(step.slug)
        return store.publish(
            step,
            draft,
            facts={**made_up, **(facts or {})},
            provenance={"git_commit": "c0ffee" * 6 + "cafe", "git_dirty": False, "python": "3.11.0"},
            seconds=1.5,
            mlflow={"run_id": f"run{step.key[:8]}", "experiment_id": "7"} if tracked else None,
        )


def _outputs(step: Step, steps: dict[str, Step]) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    match step.stage:
        case "source":
            return {}, {"rows": 40, "invisible": 2}
        case "tokenizer":
            return {}, {"vocab_size": 256}
        case "tokens":
            known = {"words": 1_000, "unknown_words": 25, "letters": 5_000, "unknown_letters": 30, "without_token": 1}
            return {}, {"sequences": 40, **known, "unknown_most": [["|", 20], ["<b>", 5]]}
        case "task":
            return {}, {"label_names": [f"label {n}" for n in range(LABELS)]}
        case "corpus":
            return {}, {"ws": step.config["ws"], "tokens": 1000, "mean_length": 10.0, "heldout": 10}
        case "inject":
            table = _counts(step)[0].iloc[5 : 5 + REMOVED][["token_id", "token", "corpus_count", "task_count"]]
            return {"removed.parquet": table.assign(corpus_count=3)}, {
                "ws": 400,
                "removed": REMOVED,
                "removed_occurrences": 9,
                "tokens": 990,
            }
        case "overlap":
            table, measured = _counts(steps[step.inputs["corpus"].key])
            parts = pd.DataFrame([{"part": part, **measured} for part in ("all", "train", "test")])
            return {"overlap.parquet": parts, "token_counts.parquet": table}, measured
        case "pretrain":
            return {"metrics.parquet": _curve("heldout_loss", "train_loss")}, {
                "heldout_loss": 5.25,
                "heldout_accuracy": 0.21,
                "steps": 10,
                "tokens": 12_345,
                "flops": 6e12 if step.labels["arch"] == "deep" else 1e12,
                "parameters": 6_000 if step.labels["arch"] == "deep" else 1_000,
            }
        case "finetune":
            predictions, accuracy = _predictions(step)
            return {"predictions.parquet": predictions, "metrics.parquet": _curve("dev_accuracy")}, {
                **accuracy,
                "parameters": 6_000 if step.labels["arch"] == "deep" else 1_000,
                "steps": 3,
                "flops": 3e11 if step.labels["arch"] == "deep" else 5e10,
            }
        case "baseline":
            predictions, accuracy = _predictions(step)
            return {"predictions.parquet": predictions}, accuracy
        case "committee":
            return _committee(step)
        case "duplicates":
            items = [
                {"item_id": f"test{n}", "part": "test", "ngrams": 9, "hits": int(n < 3)} for n in range(TEST_ITEMS)
            ]
            return {"duplicates.parquet": pd.DataFrame(items)}, {"test_items": TEST_ITEMS, "test_duplicates": 3}
    return {}, {"rows": 40}


def _counts(corpus: Step) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Token table of a corpus and the (one) task: the first `TASK_TOKENS` tokens are the task's."""
    ids = np.arange(TOKENS)
    in_corpus = ids >= (20 if corpus.labels["ws"] == 100 else 5)
    if corpus.stage == "inject":
        in_corpus &= ids >= 5 + REMOVED
    table = pd.DataFrame(
        {
            "token_id": ids.astype(np.int32),
            "token": [f"it's{n}" for n in ids],
            "corpus_count": np.where(in_corpus, 3, 0),
            "corpus_documents": np.where(in_corpus, 2, 0),
            "task_count": np.where(ids < TASK_TOKENS, 1 + ids % 7, 0),
            "task_documents": np.where(ids < TASK_TOKENS, 1, 0),
        }
    )
    in_task = ids < TASK_TOKENS
    common = int((in_corpus & in_task).sum())
    measured = {
        "corpus_types": int(in_corpus.sum()),
        "task_types": TASK_TOKENS,
        "common_types": common,
        "missing_from_corpus": TASK_TOKENS - common,
        "missing_from_task": int((in_corpus & ~in_task).sum()),
        "type_overlap": common / TASK_TOKENS,
        "occurrence_overlap": 0.9,
        "jaccard": 0.5,
        "weighted_jaccard": 0.4,
        "js_divergence": 0.3,
        "kl_divergence": 0.7,
    }
    return table, measured


def _predictions(step: Step) -> tuple[pd.DataFrame, dict[str, Any]]:
    labels, seed = step.labels, int(step.labels.get("finetune_seed") or 0)
    if step.stage == "baseline":
        right = {"majority": 50, "tfidf": 110}[str(labels["baseline"])]
    else:
        right = 80 + {0: 0, 100: 6, 400: 60}[int(labels["ws"] or 0)] + 4 * seed - (20 if labels["treatment"] else 0)
        right -= 25 if labels["init"] == "svd" else 0
    rows = [
        {"item_id": f"{part}{n}", "part": part, "label": n % LABELS, "logits": _logits(n, n < (right if test else 20))}
        for part, items, test in (("dev", DEV_ITEMS, False), ("test", TEST_ITEMS, True))
        for n in range(items)
    ]
    facts = {"test_accuracy": right / TEST_ITEMS, "dev_accuracy": 20 / DEV_ITEMS, "test_items": TEST_ITEMS}
    return pd.DataFrame(rows), facts


def _logits(item: int, right: bool) -> list[np.float32]:
    choice = item % LABELS if right else (item + 1) % LABELS
    return [np.float32(2.0 if c == choice else 0.5) for c in range(LABELS)]


def _committee(step: Step) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    right = {rule: 90 + 3 * place + (30 if step.labels["ws"] else 0) for place, rule in enumerate(RULES)}
    rows = [
        {"item_id": f"test{n}", "rule": rule, "label": n % LABELS, "prediction": (n + (n >= right[rule])) % LABELS}
        for rule in RULES
        for n in range(TEST_ITEMS)
    ]
    sizes = range(1, len(step.inputs) + 1)
    curve = [
        {"size": n, "instance": 0, "rule": rule, "accuracy": (right[rule] - len(step.inputs) + n) / TEST_ITEMS}
        for rule in RULES
        for n in sizes
    ]
    facts = {
        "members": len(step.inputs),
        "test_items": TEST_ITEMS,
        "member_accuracy": 0.4,
        "accuracy": {rule: count / TEST_ITEMS for rule, count in right.items()},
    }
    correct = np.arange(TEST_ITEMS) < right["soft"]
    instances = pd.DataFrame([{"size": n, "instance": 0, "correct": correct} for n in sizes])
    outputs = {"predictions.parquet": pd.DataFrame(rows), "curve.parquet": pd.DataFrame(curve)}
    return {**outputs, "instances.parquet": instances}, facts


def _curve(*names: str) -> pd.DataFrame:
    return pd.DataFrame(list(_points(names)), columns=["step", "epoch", "name", "value"])


def _points(names: tuple[str, ...]) -> Iterator[tuple[int, int, str, float]]:
    for name in names:
        for step in range(0, 11, 2):
            yield step, step // 5, name, 9.0 - step / 4
