"""A user's own files: CSV or TSV (with a header), JSON lines, Parquet, or plain text (paragraphs between blank lines)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlm.data.sources.base import Loaded, Progress, confine, digests, list_files, passed_over, require, shown
from tlm.data.sources.formats import SUFFIXES, Columns, format_of, read_pieces
from tlm.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from tlm.study.sources import FilesSource

_REMEDY = "Set TLM_DATA_ROOT to the folder that holds the data, or correct `path`."


def identity(source: FilesSource, data_root: str) -> dict[str, Any]:
    """Digest of each file by its part and rank in the folder, the format, and the columns read."""
    places = {
        f"{split}-{index:05d}": place
        for split, files in _places(source, data_root).items()
        for index, place in enumerate(files)
    }
    columns = [] if source.format == "text" else [source.text_column, source.label_column]
    return {"kind": "files", "format": source.format, "columns": columns, "sha256": digests(places)}


def count_hint(source: FilesSource, data_root: str) -> int | None:
    """Number of rows of Parquet files; not known for other formats."""
    from tlm.data.sources.table import parquet_rows

    if source.format != "parquet":
        return None
    places = [place for files in _places(source, data_root).values() for place in files]
    return sum(parquet_rows(place, shown(data_root, place)) for place in places)


def read(source: FilesSource, data_root: str, progress: Progress | None = None) -> Loaded:
    """All rows; one pool unless `test_path` is given. item_id is part-file:row, both counted from 0.

    Raises:
        UserError: files missing or outside the data root; labels asked of plain text. A column missing; text empty or
            label null (file and line); bad CSV, JSON, UTF-8 or Parquet; no row at all: without labels, while its parts are
            gone through.
    """
    from tlm.data.sources.table import loaded, unlabelled

    if source.format == "text" and source.label_column:
        raise UserError("Plain text has no labels.", "Leave label_column out, or use csv, jsonl or parquet.")
    aside = left_out(source, data_root)
    facts: dict[str, int | str] = {"passed_over": ", ".join(aside)} if aside else {}
    parts = _parts(source, _places(source, data_root), data_root, progress)
    if source.label_column:
        return loaded(list(parts), source.path, facts=facts)
    return unlabelled(parts, source.path, facts)


def _parts(
    source: FilesSource, places: dict[str, list[Path]], data_root: str, progress: Progress | None
) -> Iterator[pa.Table]:
    files, done = sum(map(len, places.values())), 0
    for split, own in places.items():
        items = 0
        for index, place in enumerate(own):
            for table in _read_file(source, place, shown(data_root, place), split, f"{split}-{index:05d}"):
                items += table.num_rows
                yield table
            done += 1
            if progress is not None:
                progress(done, files)
        if split != "all" and not items:
            raise UserError(f"The {split} part of {source.path} holds no item.", "Check that the file is whole.")


def left_out(source: FilesSource, data_root: str) -> list[str]:
    """What is in the source's folders and is not read, relative to the data root."""
    folders = [path for path in (source.path, source.test_path) if path and confine(data_root, path).is_dir()]
    return [
        f"{folder}/{name}" for folder in folders for name in passed_over(data_root, folder, SUFFIXES[source.format])
    ]


def _places(source: FilesSource, data_root: str) -> dict[str, list[Path]]:
    if source.test_path is None:
        return {"all": _expand(source.path, source.format, data_root)}
    places = {
        "train": _expand(source.path, source.format, data_root),
        "test": _expand(source.test_path, source.format, data_root),
    }
    if both := sorted({shown(data_root, p) for p in set(places["train"]) & set(places["test"])}):
        raise UserError(f"Both the training and the test part: {', '.join(both)}.", "Give each part its own files.")
    return places


def _expand(path: str, file_format: str, data_root: str) -> list[Path]:
    if confine(data_root, path).is_dir():
        return list_files(data_root, path, SUFFIXES[file_format], _REMEDY)
    place = require(data_root, {"data": path}, _REMEDY)["data"]
    if format_of(Path(path)) not in (None, file_format):
        raise UserError(
            f"{path} is called a {format_of(Path(path))} file, and is to be read as {file_format}.",
            f"Set format: {format_of(Path(path))}, or rename it.",
        )
    return [place]


def _read_file(source: FilesSource, place: Path, name: str, split: str, prefix: str) -> Iterator[pa.Table]:
    from tlm.data.sources.table import ROWS_AT_ONCE, part

    above = 0
    columns = Columns(source.text_column, source.label_column)
    at_once = None if source.label_column else ROWS_AT_ONCE
    for piece in read_pieces(place, name, source.format, columns, at_once):
        yield part(split, piece.texts, piece.where, labels=piece.labels, prefix=prefix, above=above)
        above += len(piece.texts)
