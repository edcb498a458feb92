"""A task's items: a fixed number for each label, split in train, dev and test by a seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tlm.errors import UserError
from tlm.study.config import ItemSelection

SPLITS = ("train", "dev", "test")


def select_items(labels: pd.DataFrame, label_names: tuple[str, ...], config: ItemSelection, task: str) -> pd.DataFrame:
    """Choose the items of a task.

    Args:
        labels: one row for each source row, with columns `label` (int) and `split` ("train", "test" or "all").
        label_names: names by label.
        config: how many of each label, which seed. Dev items are always taken from the training split of the source.
        task: its name, for error messages.

    Returns:
        Columns `row` (source row), `label` (0 … labels - 1, renumbered if labels were cut), `part`; sorted by row.

    Raises:
        UserError: if the source has one label, or fewer than asked for, or a label has fewer items than asked for.
    """
    generator = np.random.default_rng([config.seed, 0x7A_5C])
    chosen = choose_labels(label_names, config.labels, task, generator)
    pooled = bool((labels["split"] == "all").all())
    rows = np.arange(len(labels))
    parts = []
    for new, old in enumerate(chosen):
        own = (labels["label"] == old).to_numpy()
        for split, wanted in _demand(config, pooled).items():
            available = rows[own & (labels["split"] == split).to_numpy()]
            total = sum(wanted.values())
            if len(available) < total:
                what = " + ".join(f"{count} {part}" for part, count in wanted.items())
                raise UserError(
                    f"task {task}: label {label_names[old]!r} has {len(available)} {split} items, {total} needed "
                    f"({what}).",
                    "Lower the task's train_per_label or test_per_label, or leave that label's items out.",
                )
            drawn = generator.permutation(available)[:total]
            part = np.repeat(list(wanted), list(wanted.values()))
            parts.append(pd.DataFrame({"row": drawn, "label": new, "part": part}))
    return pd.concat(parts).sort_values("row", ignore_index=True)


def names_of_labels(
    items: pd.DataFrame, labels_of_source: NDArray[np.integer], names_of_source: Sequence[str]
) -> tuple[str, ...]:
    """Names by a task's own labels: it numbers anew those of its source's labels that it keeps.

    Args:
        items: columns `row` (in the source) and `label`, as `select_items` returns them.
        labels_of_source: the label of each row of the source.
        names_of_source: names by those.
    """
    labels, first = np.unique(items["label"].to_numpy(), return_index=True)
    assert labels.tolist() == list(range(len(labels))), "a task's labels are 0 … C - 1"
    return tuple(str(names_of_source[label]) for label in labels_of_source[items["row"].to_numpy()[first]])


def choose_labels(
    label_names: tuple[str, ...], wanted: int | None, task: str, generator: np.random.Generator
) -> list[int]:
    """Which labels to keep: all, or a nested random choice (the 4-label task is contained in the 8-label one)."""
    if len(label_names) < 2:
        raise UserError(
            f"task {task}: its source has one label ({label_names[0]!r}); a classification task needs two.",
            "Choose another label_column, or add items of another label.",
        )
    if wanted is None:
        return list(range(len(label_names)))
    if wanted > len(label_names):
        raise UserError(
            f"task {task}: labels={wanted}, but its source has {len(label_names)}.", f"Choose 2 to {len(label_names)}."
        )
    return sorted(generator.permutation(len(label_names))[:wanted].tolist())


def _demand(config: ItemSelection, pooled: bool) -> dict[str, dict[str, int]]:
    """Split of the source → split of the task → items of each label. A `pooled` source has the one split "all"."""
    train = {"train": config.train_per_label - config.dev_per_label, "dev": config.dev_per_label}
    test = {"test": config.test_per_label}
    return {"all": {**test, **train}} if pooled else {"train": train, "test": test}
