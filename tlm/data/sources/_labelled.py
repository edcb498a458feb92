"""What AG News and DBpedia-14 share: a train and a test Parquet file whose label is an index into known names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tlm.data.sources import hub_access
from tlm.data.sources.base import Loaded, Progress, digests, read_label_names, require, require_columns, shown
from tlm.data.sources.values import known_names
from tlm.errors import UserError

if TYPE_CHECKING:
    from tlm.study.sources import AgNewsSource, DbpediaSource

    LabelledSource = AgNewsSource | DbpediaSource

SPLITS = ("train", "test")


def identity(source: LabelledSource, data_root: str) -> dict[str, Any]:
    """Hub: repository and revision. Local: digest of each part and of the label names."""
    if source.origin == "hub":
        return {"kind": source.kind, "repo": source.repo, "revision": source.revision}
    return {"kind": source.kind, "sha256": digests(require(data_root, _files(source)))}


def count_hint(source: LabelledSource, data_root: str) -> int | None:
    """Number of items of both parts, from local metadata; not known for the Hub."""
    from tlm.data.sources.table import parquet_rows

    if source.origin == "hub":
        return None
    places = require(data_root, _files(source))
    return sum(parquet_rows(places[split], shown(data_root, places[split])) for split in SPLITS)


def read(
    source: LabelledSource, data_root: str, progress: Progress | None, text_column: str, hub_folder: str
) -> Loaded:
    """Both parts, labelled.

    Raises:
        UserError: files or columns missing, unreadable Parquet, empty text, null or unknown label, Hub unreachable.
    """
    from tlm.data.sources.table import loaded, part, read_parquet, rows_of

    parts = []
    facts: dict[str, int | str] = {}
    if source.origin == "hub":
        label_names: tuple[str, ...] = ()
        for done, split in enumerate(SPLITS, start=1):
            file = f"{hub_folder}/{split}-00000-of-00001.parquet"
            table, names, facts["commit"] = hub_access.load(
                source.repo, source.revision, split="train", data_files=[file]
            )
            require_columns((text_column, "label"), table.column_names, f"{source.repo}/{file}")
            if "label" not in names:
                raise UserError(f"{file} of {source.repo} does not name its labels.", "Use the pinned revision.")
            label_names = known_names(names["label"], f"{file} of {source.repo}")
            rows = rows_of(f"{source.repo}/{file}")
            parts.append(part(split, table[text_column], rows, indices=table["label"], prefix=f"{split}-00000"))
            if progress is not None:
                progress(done, len(SPLITS))
        return loaded(parts, source.repo, label_names, facts)
    places = require(data_root, _files(source))
    label_names = read_label_names(places["labels"], shown(data_root, places["labels"]))
    for done, split in enumerate(SPLITS, start=1):
        name = shown(data_root, places[split])
        table = read_parquet(places[split], name, (text_column, "label"))
        parts.append(part(split, table[text_column], rows_of(name), indices=table["label"], prefix=f"{split}-00000"))
        if progress is not None:
            progress(done, len(SPLITS))
    return loaded(parts, source.path, label_names)


def _files(source: LabelledSource) -> dict[str, str]:
    return {
        "train": f"{source.path}/train.parquet",
        "test": f"{source.path}/test.parquet",
        "labels": f"{source.path}/labels.json",
    }
