"""Stage `committee`: several fine-tuned models together (paper: Table 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlm.artifacts.step import Label
from tlm.artifacts.tables import Table
from tlm.stages.base import Aside, Stage
from tlm.stages.finetune import Finetune

if TYPE_CHECKING:
    from tlm.stages.job import Facts, Job

PREDICTIONS = Table(
    "committee_predictions", {"item_id": "varchar", "rule": "varchar", "label": "integer", "prediction": "integer"}
)
CURVE = Table("committee_curve", {"size": "integer", "instance": "integer", "rule": "varchar", "accuracy": "double"})
INSTANCES = Table("committee_instances", {"size": "integer", "instance": "integer", "correct": "boolean[]"})


class Committee(Stage, name="committee", version="2"):
    """Of test items alone: predictions.parquet (whole committee, one row for each item and rule), curve.parquet (accuracy
    of every disjoint committee of every size) and instances.parquet (which items the soft ones get right)."""

    members: tuple[Finetune, ...] = ()
    committee: Aside[str]
    """What the study calls it."""
    task: Aside[str]
    ws: Aside[int]

    requires = ("scipy",)
    role = "combines"
    outputs = {"predictions.parquet": PREDICTIONS, "curve.parquet": CURVE, "instances.parquet": INSTANCES}

    @property
    def slug(self) -> str:
        return f"{self.task}-{self.committee}-ws{self.ws}"

    @property
    def labels(self) -> dict[str, Label]:
        init = "pretrained" if self.ws else "scratch"
        return {"ws": self.ws, "treatment": None, "task": self.task, "committee": self.committee, "init": init}

    def run(self, job: Job) -> Facts:
        import numpy as np
        import pandas as pd

        from tlm.evaluation.committee import RULES, combine, disjoint

        members = [
            frame[frame["part"] == "test"].sort_values("item_id", ignore_index=True)
            for frame in (job.frame(name, "predictions.parquet") for name in sorted(job.inputs))
        ]
        first = members[0]
        for name, frame in zip(sorted(job.inputs), members, strict=True):
            if not frame[["item_id", "label"]].equals(first[["item_id", "label"]]):
                other = job.inputs[name].record.slug
                raise RuntimeError(f"{name} ({other}) predicted other items than the first member")
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
