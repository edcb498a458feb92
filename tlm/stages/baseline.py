"""Stage `baseline`: what a task yields without a neural network, on the same items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlm.artifacts.step import Label
from tlm.artifacts.tables import PREDICTIONS
from tlm.stages.base import Stage
from tlm.stages.source import Source
from tlm.stages.task import Task

if TYPE_CHECKING:
    from tlm.artifacts.record import Record
    from tlm.stages.job import Facts, Job


class Baseline(Stage, name="baseline", version="1"):
    """predictions.parquet of a baseline fitted on the same training items.

    One that cannot be fitted on them is not measured: it predicts nothing, and the fact `not_measured` says why.
    """

    task: Task
    source: Source
    baseline: str

    role = "predicts"
    requires = ("sklearn",)
    outputs = {"predictions.parquet": PREDICTIONS}

    @property
    def slug(self) -> str:
        return f"{self.task.task}-{self.baseline}"

    @property
    def labels(self) -> dict[str, Label]:
        return {"task": self.task.task, "baseline": self.baseline}

    def run(self, job: Job) -> Facts:
        import numpy as np
        import pandas as pd

        from tlm.evaluation.baselines import BASELINES

        items = job.frame("task", "items.parquet")
        texts = job.frame("source", "rows.parquet", ["text"])["text"]
        splits = dict(list(items.groupby("part")))
        train = splits["train"]
        held = pd.concat([splits["dev"], splits["test"]])
        fit = BASELINES[self.baseline]
        try:
            logits_NC = fit(texts[train["row"]].tolist(), train["label"].to_numpy(), texts[held["row"]].tolist())
        except ValueError as error:
            return {"not_measured": str(error).partition("\n")[0]}
        predictions = held[["item_id", "part", "label"]].assign(logits=list(logits_NC.astype(np.float32)))
        job.write(predictions, "predictions.parquet")
        right = pd.Series(logits_NC.argmax(axis=1) == held["label"].to_numpy()).groupby(held["part"].to_numpy()).mean()
        return {
            "test_accuracy": float(right["test"]),
            "dev_accuracy": float(right["dev"]),
            "test_items": len(splits["test"]),
        }

    @classmethod
    def notes(cls, record: Record) -> list[str]:
        return [f"not measured: {record.facts['not_measured']}"] if "not_measured" in record.facts else []
