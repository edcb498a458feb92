"""Stages that need no model any more: committee, baseline, report."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from tlm.artifacts.store import ArtifactStore
from tlm.evaluation.baselines import BASELINES
from tlm.evaluation.committee import RULES, combine, disjoint
from tlm.stages.job import Facts, Job
from tlm.study.config import StudyConfig


def committee(job: Job) -> Facts:
    """Test items alone: predictions.parquet (whole committee, one row for each item and rule), curve.parquet (accuracy of
    every disjoint committee of every size) and instances.parquet (which items the soft ones get right)."""
    members = [
        frame[frame["part"] == "test"].sort_values("item_id", ignore_index=True)
        for frame in (job.frame(name, "predictions.parquet") for name in sorted(job.inputs))
    ]
    first = members[0]
    for name, frame in zip(sorted(job.inputs), members, strict=True):
        if not frame[["item_id", "label"]].equals(first[["item_id", "label"]]):
            raise RuntimeError(f"{name} ({job.inputs[name].record.slug}) predicted other items than the first member")
    logits_MNC = np.stack([np.stack(frame["logits"].to_list()) for frame in members])
    labels_N = first["label"].to_numpy()
    predictions, curve, instances = [], [], []
    for rule in RULES:
        for size in range(1, len(members) + 1):
            job.progress(size, len(members))
            for instance, own in enumerate(disjoint(len(members), size)):
                choice_N = combine(logits_MNC[own], rule).argmax(axis=1)
                which = {"size": size, "instance": instance}
                curve.append({**which, "rule": rule, "accuracy": float((choice_N == labels_N).mean())})
                if rule == "soft":
                    instances.append({**which, "correct": choice_N == labels_N})
        predictions.append(first[["item_id", "label"]].assign(rule=rule, prediction=choice_N))
    job.write(pd.concat(predictions)[["item_id", "rule", "label", "prediction"]], "predictions.parquet")
    job.write(pd.DataFrame(curve), "curve.parquet")
    job.write(pd.DataFrame(instances), "instances.parquet")
    return {
        "members": len(members),
        "test_items": len(labels_N),
        "member_accuracy": float((logits_MNC.argmax(axis=2) == labels_N).mean()),
        "accuracy": {row["rule"]: row["accuracy"] for row in curve if row["size"] == len(members)},
    }


def baseline(job: Job) -> Facts:
    """predictions.parquet of a baseline fitted on the same training items."""
    items = job.frame("task", "items.parquet")
    texts = job.frame("source", "rows.parquet", ["text"])["text"]
    parts = dict(list(items.groupby("part")))
    train = parts["train"]
    held = pd.concat([parts["dev"], parts["test"]])
    fit = BASELINES[str(job.config["baseline"])]
    logits_NC = fit(texts[train["row"]].tolist(), train["label"].to_numpy(), texts[held["row"]].tolist())
    predictions = held[["item_id", "part", "label"]].assign(logits=list(logits_NC.astype(np.float32)))
    job.write(predictions, "predictions.parquet")
    correct = pd.Series(logits_NC.argmax(axis=1) == held["label"].to_numpy()).groupby(held["part"].to_numpy()).mean()
    return {
        "test_accuracy": float(correct["test"]),
        "dev_accuracy": float(correct["dev"]),
        "test_items": len(parts["test"]),
    }


def report(job: Job) -> Facts:
    """report.html, report.md and plots/ over every step of the study; labels.json: what the study calls each of them."""
    from tlm.artifacts import catalogue
    from tlm.artifacts.provenance import provenance
    from tlm.report import render
    from tlm.results import find

    study = StudyConfig.model_validate(job.config["study"])
    records = [artifact.record for artifact in job.inputs.values()]
    store = ArtifactStore(job.runtime.artifacts)
    labels = job.step.access["labels"]
    (job.out / catalogue.LABELS_FILE).write_text(json.dumps(labels, sort_keys=True), encoding="utf-8")
    with catalogue.build_memory(store, records, labels=labels) as connection:
        return render(
            connection,
            study,
            job.out,
            provenance=provenance(),
            mlflow_url=job.runtime.mlflow_url,
            findings=find(connection, study),
        )
