"""Any dataset on the Hugging Face Hub: a text column, and a label column for a task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tlm.data.sources import hub_access
from tlm.data.sources.base import Loaded, Progress, require_columns
from tlm.data.sources.values import known_names
from tlm.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

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
    from tlm.data.sources.table import loaded, unlabelled

    splits = {"train" if source.test_split else "all": source.train_split}
    if source.test_split:
        splits["test"] = source.test_split
    facts: dict[str, int | str] = {}
    names: set[tuple[str, ...] | None] = set()
    parts = _parts(source, splits, facts, names, progress)
    if not source.label_column:
        return unlabelled(parts, source.repo, facts)
    whole = list(parts)
    if len(names) > 1:
        raise UserError(
            f"{source.repo}: its splits name their labels differently.", "Choose splits with the same labels."
        )
    return loaded(whole, source.repo, next(iter(names), None), facts)


def _parts(
    source: HubSource,
    splits: Mapping[str, str],
    facts: dict[str, int | str],
    label_names: set[tuple[str, ...] | None],
    progress: Progress | None,
) -> Iterator[pa.Table]:
    """Its rows; adds to `facts` the commit and to `label_names` how each split names its labels."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from tlm.data.sources.table import part, pieces_of, rows_of

    columns = (source.text_column, *([source.label_column] if source.label_column else []))
    for done, (split, hub_split) in enumerate(splits.items(), start=1):
        table, names, facts["commit"] = hub_access.load(
            source.repo, source.revision, split=hub_split, config=source.config
        )
        where = f"{source.repo} {hub_split}"
        require_columns(columns, table.column_names, where)
        known = names.get(source.label_column) if source.label_column else None
        label_names.add(None if known is None else known_names(known, where))
        for above, piece in pieces_of(table) if source.label_column is None else [(0, table)]:
            labels: dict[str, Any] = {}
            if source.label_column and known is None:
                labels["labels"] = piece[source.label_column]
            elif source.label_column:  # by convention -1 marks the unlabelled rows of a hidden test split
                column = piece[source.label_column]
                labels["indices"] = pc.if_else(pc.equal(column, -1), pa.scalar(None, column.type), column)
            yield part(
                split,
                piece[source.text_column],
                rows_of(where, above),
                prefix=f"{split}-00000",
                above=above,
                **labels,
            )
        if progress is not None:
            progress(done, len(splits))
