"""DBpedia-14 (Zhang et al. 2015): the abstract (`content`) of an article, fourteen classes; its title is not used.

Hub: https://huggingface.co/datasets/fancyzhx/dbpedia_14, dbpedia_14/{train,test}-00000-of-00001.parquet. Locally:
{train,test}.parquet with label, title and content, and labels.json.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlm.data.sources import _labelled
from tlm.data.sources._labelled import count_hint, identity
from tlm.data.sources.base import Loaded, Progress

if TYPE_CHECKING:
    from tlm.study.sources import DbpediaSource

__all__ = ["count_hint", "identity", "read"]


def read(source: DbpediaSource, data_root: str, progress: Progress | None = None) -> Loaded:
    """Both parts, labelled 0–13. Raises UserError as `_labelled.read`."""
    return _labelled.read(source, data_root, progress, text_column="content", hub_folder="dbpedia_14")
