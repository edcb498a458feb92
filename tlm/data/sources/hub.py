"""Any dataset on the Hugging Face Hub: a text column, and a label column for a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tlm.data.sources import hub_access
from tlm.data.sources.base import Loaded, Progress, require_columns
from tlm.data.sources.values import known_names

if TYPE_CHECKING:
    from tlm.study.sources import HubSource


def identity(source: HubSource, data_root: str) -> dict[str, Any]:
    """Every field: all of them choose content."""
    hub_access.check_repo_id(source.repo)
    return {
        "kind": "hub",
        "repo": source.repo,
        "revision": source.revision,
        "config": source.config,
        "splits": [source.train_split, source.test_split],
        "columns": [source.text_column, source.label_column],
    }


def count_hint(source: HubSource, data_root: str) -> int | None:
    """Not known without asking the Hub."""
    return None


def read(source: HubSource, data_root: str, progress: Progress | None = None) -> Loaded:
    """The training split (and the test split if one is named); labels are coded in the order of the dataset's own
    names, or sorted.

    Raises:
        UserError: Hub unreachable, no such configuration, split or column, empty text, null label (-1 of a ClassLabel
            is none), two splits that name their labels differently.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from tlm.data.sources.table import loaded, part, rows_of
    from tlm.errors import UserError

    splits = {"train" if source.test_split else "all": source.train_split}
    if source.test_split:
        splits["test"] = source.test_split
    parts, label_names, facts = [], set(), {}
    for done, (split, hub_split) in enumerate(splits.items(), start=1):
        table, names, facts["commit"] = hub_access.load(
            source.repo, source.revision, split=hub_split, config=source.config
        )
        where = f"{source.repo} {hub_split}"
        columns = (source.text_column, *([source.label_column] if source.label_column else []))
        require_columns(columns, table.column_names, where)
        labels: dict[str, Any] = {}
        if source.label_column:
            column, known = table[source.label_column], names.get(source.label_column)
            label_names.add(None if known is None else known_names(known, where))
            if known is None:
                labels["labels"] = column
            else:  # by convention -1 marks the unlabelled rows of a hidden test split
                labels["indices"] = pc.if_else(pc.equal(column, -1), pa.scalar(None, column.type), column)
        parts.append(part(split, table[source.text_column], rows_of(where), prefix=f"{split}-00000", **labels))
        if progress is not None:
            progress(done, len(splits))
    if len(label_names) > 1:
        raise UserError(
            f"{source.repo}: its splits name their labels differently.", "Choose splits with the same labels."
        )
    return loaded(parts, source.repo, next(iter(label_names), None), facts)
