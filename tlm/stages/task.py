"""Stage `task`: the items of a task, so many for each label."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlm.artifacts.step import Label
from tlm.errors import UserError
from tlm.stages.base import Aside, Count, Flat, Stage
from tlm.stages.source import Source
from tlm.study.config import ItemSelection

if TYPE_CHECKING:
    from tlm.stages.job import Facts, Job


class Task(Stage, name="task", version="2"):
    """items.parquet: row (in the source), item_id, label, part."""

    source: Source
    selection: Flat[ItemSelection]
    task: Aside[str]
    """What the study calls it."""
    test_items: bool = True
    """False: train and dev items are the same, and there are no others, so that nothing can be chosen by them."""

    outputs = {"items.parquet": None}
    told = {"label_names": list[str], **dict.fromkeys(("labels", "train", "dev", "test"), Count)}

    @property
    def slug(self) -> str:
        return self.task if self.test_items else f"trial-{self.task}"

    @property
    def labels(self) -> dict[str, Label]:
        return {"task": self.task}

    def run(self, job: Job) -> Facts:
        import pyarrow.parquet as pq

        from tlm.data.items import SPLITS, names_of_labels, select_items

        names = job.inputs["source"].record.facts["label_names"]
        if names is None:
            raise UserError(
                f"task {self.task}: its source has no labels.", "Name its label_column, or use another source."
            )
        table = pq.read_table(job.inputs["source"].path("rows.parquet"), columns=["item_id", "label", "split"])
        items = select_items(table.to_pandas(), tuple(names), self.selection, self.task)
        if not self.test_items:
            items = items[items["part"] != "test"].reset_index(drop=True)
        items.insert(1, "item_id", table.column("item_id").take(items["row"].to_numpy()).to_pandas())
        job.write(items, "items.parquet")
        sizes = items["part"].value_counts()
        of_source = table.column("label").to_numpy()
        return {
            "labels": int(items["label"].max()) + 1,
            "label_names": list(names_of_labels(items, of_source, names)),
            **{split: int(sizes.get(split, 0)) for split in SPLITS},
        }
