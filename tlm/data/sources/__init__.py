"""Readers: from a source's configuration to items. A new source is one module and one entry here.

Importing this package imports no reader and no heavy library: a study is planned in a second, on machines without
`datasets`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

from tlm.data.sources.base import Loaded, Progress
from tlm.errors import UserError

if TYPE_CHECKING:
    from tlm.study.sources import Source

__all__ = ["READERS", "Loaded", "Progress", "Reader", "count_hint", "identity", "left_out", "preflight", "read"]


class Reader(Protocol):
    """What each module of `READERS` has."""

    def identity(self, source: Any, data_root: str) -> dict[str, Any]: ...
    def read(self, source: Any, data_root: str, progress: Progress | None = None) -> Loaded: ...
    def count_hint(self, source: Any, data_root: str) -> int | None: ...


class _Readers(Mapping[str, Reader]):
    """kind → module, imported when first used."""

    def __init__(self, modules: Mapping[str, str]) -> None:
        self._modules = dict(modules)

    def __getitem__(self, kind: str) -> Reader:
        return cast(Reader, importlib.import_module(f"{__name__}.{self._modules[kind]}"))

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)


READERS: Mapping[str, Reader] = _Readers(
    {
        "wikipedia": "wikipedia",
        "few_rel": "few_rel",
        "ag_news": "ag_news",
        "dbpedia_14": "dbpedia",
        "docstrings": "docstrings",
        "files": "files",
        "hub": "hub",
    }
)


def identity(source: Source, data_root: str) -> dict[str, Any]:
    """What makes the source's content, JSON-able and cheap: digests of local files, pinned revisions, versions.

    Raises:
        UserError: files missing (all named, with the remedy), a path outside the data root, a library not installed.
    """
    return _reader(source).identity(source, data_root)


def read(source: Source, data_root: str, progress: Progress | None = None) -> Loaded:
    """Every item of the source with something to read; `progress` is called with (done, total), in units of files.

    A text without a visible character is left out, and counted in the fact `invisible`.

    Raises:
        UserError: whatever is wrong with the data, with its place (file and row or line) and the remedy.
    """
    from tlm.data.sources.visible import only_visible

    return only_visible(_reader(source).read(source, data_root, progress), source.slug)


def count_hint(source: Source, data_root: str) -> int | None:
    """Number of items if that is known without reading them, else None."""
    return _reader(source).count_hint(source, data_root)


def left_out(source: Source, data_root: str) -> list[str]:
    """What is in the source's local folders and is not read: other suffixes, sub-folders, hidden files."""
    reader = _reader(source)
    return reader.left_out(source, data_root) if hasattr(reader, "left_out") else []


def preflight(source: Source, data_root: str) -> None:
    """Fail now if the source cannot be read: files or libraries missing, or no answer from the Hub in 10 seconds.

    Raises:
        UserError: as `identity`, or the Hub cannot be reached.
    """
    identity(source, data_root)
    if source.kind == "hub" or getattr(source, "origin", None) == "hub":
        from tlm.data.sources.hub_access import ensure_reachable

        ensure_reachable(source.repo, source.revision, "dataset")  # type: ignore[union-attr]


def _reader(source: Source) -> Reader:
    if source.kind not in READERS:
        raise UserError(f"Unknown kind of source {source.kind!r}.", f"Known: {', '.join(READERS)}.")
    return READERS[source.kind]
