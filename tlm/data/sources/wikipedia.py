"""English Wikipedia, from Parquet shards with id, title and text.

Hub: https://huggingface.co/datasets/wikimedia/wikipedia, 41 shards of about 420 MB for 20231101.en, of which a few are
drawn. Locally: every *.parquet of the folder, by name.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlm.data.sources import hub_access
from tlm.data.sources.base import Loaded, Progress, digests, list_files, passed_over, shown

if TYPE_CHECKING:
    import pyarrow as pa

    from tlm.study.sources import WikipediaSource

TOTAL_SHARDS = 41
RULES_VERSION = 1
"""Of `tlm.data.sources.detokenising`: part of the identity of what is read with it."""


def drawn_shards(source: WikipediaSource) -> list[int]:
    """The shard numbers (0–40) that `shard_seed` draws, ascending. More shards contain the fewer of the same seed."""
    order = list(range(TOTAL_SHARDS))
    random.Random(source.shard_seed).shuffle(order)  # noqa: S311 - a sample, not a secret
    return sorted(order[: source.shards])


def identity(source: WikipediaSource, data_root: str) -> dict[str, Any]:
    """Hub: repository, revision, configuration and drawn shards. Local: digest of each shard, in order."""
    changed = {"detokenise": RULES_VERSION} if source.detokenise else {}
    if source.origin == "hub":
        return {
            "kind": "wikipedia",
            "repo": source.repo,
            "revision": source.revision,
            "config": source.config,
            "shards": drawn_shards(source),
            **changed,
        }
    places = list_files(data_root, source.path, (".parquet",))
    digest = digests({f"shard-{i:05d}": p for i, p in enumerate(places)})
    return {"kind": "wikipedia", "sha256": digest, **changed}


def count_hint(source: WikipediaSource, data_root: str) -> int | None:
    """Number of entries, from the local shards' metadata; not known for the Hub."""
    from tlm.data.sources.table import parquet_rows

    if source.origin == "hub":
        return None
    return sum(parquet_rows(p, shown(data_root, p)) for p in list_files(data_root, source.path, (".parquet",)))


def left_out(source: WikipediaSource, data_root: str) -> list[str]:
    """What else is in the local folder of shards, relative to the data root."""
    if source.origin == "hub":
        return []
    return [f"{source.path}/{name}" for name in passed_over(data_root, source.path, (".parquet",))]


def read(source: WikipediaSource, data_root: str, progress: Progress | None = None) -> Loaded:
    """Every entry of the shards, as one pool; item_id is Wikipedia's own id.

    Raises:
        UserError: shards missing or unreadable, an empty text (on the Hub: left out and counted), Hub unreachable; all
            but the first while its parts are gone through.
    """
    from tlm.data.sources.table import unlabelled

    if source.origin == "hub":
        facts: dict[str, int | str] = {}
        parts = _hub_parts(source, facts, progress)
        return unlabelled(_as_written(source, parts), f"{source.repo} {source.config}", facts)
    places = list_files(data_root, source.path, (".parquet",))
    return unlabelled(_as_written(source, _local_parts(places, data_root, progress)), source.path)


def _hub_parts(source: WikipediaSource, facts: dict[str, int | str], progress: Progress | None) -> Iterator[pa.Table]:
    from tlm.data.sources.table import part, pieces_of, rows_of

    shards = drawn_shards(source)
    files = [f"{source.config}/train-{shard:05d}-of-{TOTAL_SHARDS:05d}.parquet" for shard in shards]
    empty = 0
    for done, file in enumerate(files, start=1):
        table, _, facts["commit"] = hub_access.load(source.repo, source.revision, split="train", data_files=[file])
        for above, piece in pieces_of(table):
            kept = part("all", piece["text"], rows_of(file, above), ids=piece["id"], drop_empty=True)
            empty += piece.num_rows - kept.num_rows
            yield kept
        if progress is not None:
            progress(done, len(files))
    facts.update(shards=",".join(map(str, shards)), empty_left_out=empty)


def _local_parts(places: list[Path], data_root: str, progress: Progress | None) -> Iterator[pa.Table]:
    from tlm.data.sources.table import parquet_pieces, part, rows_of

    for done, place in enumerate(places, start=1):
        name = shown(data_root, place)
        for above, piece in parquet_pieces(place, name, ("id", "text")):
            yield part("all", piece["text"], rows_of(name, above), ids=piece["id"])
        if progress is not None:
            progress(done, len(places))


def _as_written(source: WikipediaSource, parts: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The parts with their texts as people write them, if that is asked for."""
    if not source.detokenise:
        yield from parts
        return
    import pyarrow as pa

    from tlm.data.sources.detokenising import detokenised

    for table in parts:
        texts = pa.array(map(detokenised, table["text"].to_pylist()), table.schema.field("text").type)
        yield table.set_column(table.schema.get_field_index("text"), "text", texts)
