"""Where text comes from: one frozen model for each kind of source. The readers are in `tlm.data.sources`.

A source is explicit in the study and part of identity; no source ever stands in for another. Local paths are relative to
the data root (`TLM_DATA_ROOT`) and are not identity: the digest of what they hold is.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from tlm.study.base import Frozen, Seed, added

Origin = Literal["local", "hub"]


class SourceConfig(Frozen):
    """What every kind of source has."""

    kind: str

    @property
    def slug(self) -> str:
        """The kind, and what tells two sources of one kind apart."""
        return self.kind


class WikipediaSource(SourceConfig):
    """English Wikipedia. On the Hub: `shards` of its 41 Parquet shards, drawn by `shard_seed`; locally: every shard."""

    kind: Literal["wikipedia"] = "wikipedia"
    origin: Origin = "hub"
    path: str = "wikipedia"
    repo: str = "wikimedia/wikipedia"
    config: str = "20231101.en"
    revision: str = "b04c8d1ceb2f5cd4588862100d08de323dccfbaa"
    shards: Annotated[int, Field(ge=1, le=41)] = 2
    shard_seed: Seed = 0
    detokenise: bool = added(
        False, description='write "John \'s ship ," as "John\'s ship,", for text that was cut into words'
    )


class FewRelSource(SourceConfig):
    """FewRel relation classification, read from one of its JSON files (relation id → list of {tokens, h, t})."""

    kind: Literal["few_rel"] = "few_rel"
    origin: Origin = "hub"
    path: str = "few_rel"
    file: str = Field("train_wiki.json", pattern=r"^[A-Za-z0-9_.-]+\.json$")
    repo: str = "thunlp/few_rel"
    revision: str = "refs/convert/parquet"

    @property
    def slug(self) -> str:
        return f"few-rel-{PurePosixPath(self.file).stem}"


class AgNewsSource(SourceConfig):
    """AG News: four topics, title and description as one text."""

    kind: Literal["ag_news"] = "ag_news"
    origin: Origin = "hub"
    path: str = "ag_news"
    repo: str = "fancyzhx/ag_news"
    revision: str = "eb185aade064a813bc0b7f42de02595523103ca4"


class DbpediaSource(SourceConfig):
    """DBpedia-14: fourteen ontology classes, `content` only."""

    kind: Literal["dbpedia_14"] = "dbpedia_14"
    origin: Origin = "hub"
    path: str = "dbpedia_14"
    repo: str = "fancyzhx/dbpedia_14"
    revision: str = "9abd46cf7fc8b4c64290f26993c540b92aa145ac"


class DocstringsSource(SourceConfig):
    """The embedded corpus: paragraphs of the docstrings of installed libraries, labelled by library.

    `part` keeps pre-training and task paragraphs disjoint: a fixed share of the paragraphs, chosen by content, is `task`.
    """

    kind: Literal["docstrings"] = "docstrings"
    part: Literal["corpus", "task"] = "corpus"
    libraries: tuple[str, ...] = Field(min_length=2, description="importable top-level names, e.g. torch")
    min_words: PositiveInt = 8

    @property
    def slug(self) -> str:
        return f"docstrings-{self.part}"


class FilesSource(SourceConfig):
    """A user's own files: CSV, TSV, JSON lines, Parquet, or plain text (one paragraph between blank lines, no labels)."""

    kind: Literal["files"] = "files"
    format: Literal["csv", "tsv", "jsonl", "parquet", "text"]
    path: str = Field(description="a file or folder under the data root; the training part if `test_path` is given")
    test_path: str | None = None
    text_column: str = "text"
    label_column: str | None = Field(None, description="required for a task")

    @property
    def slug(self) -> str:
        return f"files-{PurePosixPath(self.path).stem}"


class HubSource(SourceConfig):
    """Any dataset on the Hugging Face Hub, by id, at a pinned revision."""

    kind: Literal["hub"] = "hub"
    repo: str
    revision: str
    config: str | None = None
    train_split: str = "train"
    test_split: str | None = None
    text_column: str = "text"
    label_column: str | None = None

    @property
    def slug(self) -> str:
        return f"hub-{self.repo}"


Source = Annotated[
    WikipediaSource | FewRelSource | AgNewsSource | DbpediaSource | DocstringsSource | FilesSource | HubSource,
    Field(discriminator="kind"),
]
