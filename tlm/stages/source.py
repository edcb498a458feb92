"""Stage `source`: the items of a source, read once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tlm.errors import UserError
from tlm.stages.base import Aside, Count, Flat, Stage
from tlm.study.sources import Source as SourceConfig

if TYPE_CHECKING:
    import pyarrow as pa

    from tlm.artifacts.record import Record
    from tlm.stages.job import Facts, Job


class Source(Stage, name="source", version="2"):
    """rows.parquet: item_id, text, split and, for a labelled source, label."""

    content: Flat[dict[str, Any]]
    """What makes the source's content (`tlm.data.sources.identity`): digests, pinned revisions, versions."""
    source: Aside[SourceConfig]

    retries = 2
    outputs = {"rows.parquet": None}
    told = {"rows": Count, "label_names": list[str] | None, "invisible": Count}

    @property
    def slug(self) -> str:
        return self.source.slug

    def run(self, job: Job) -> Facts:
        from tlm.data import sources

        if sources.identity(self.source, job.runtime.data_root) != self.content:
            raise UserError(
                f"source {self.source.kind} changed between planning and reading it.", "Run the study again."
            )
        loaded = sources.read(self.source, job.runtime.data_root, progress=job.progress)
        splits: Counter[str] = Counter()

        def counted() -> Iterator[pa.Table]:
            for table in loaded.parts:
                splits.update({entry["values"]: entry["counts"] for entry in table["split"].value_counts().to_pylist()})
                yield table

        job.write_parts(counted(), "rows.parquet")
        return {
            "rows": splits.total(),
            "label_names": list(loaded.label_names) if loaded.label_names is not None else None,
            "by_split": dict(splits),
            "invisible": 0,
            **loaded.facts,
        }

    @classmethod
    def notes(cls, record: Record) -> list[str]:
        invisible = record.facts["invisible"]
        texts = record.facts["rows"] + invisible
        return [f"{invisible:,} of {texts:,} texts have no visible character and are left out"] if invisible else []
