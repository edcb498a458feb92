"""AG News (Zhang et al. 2015): title and description as one text, four topics.

Hub: https://huggingface.co/datasets/fancyzhx/ag_news, data/{train,test}-00000-of-00001.parquet. Locally:
{train,test}.parquet with text and label, and labels.json.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlm.data.sources import _labelled
from tlm.data.sources._labelled import count_hint, identity
from tlm.data.sources.base import Loaded, Progress

if TYPE_CHECKING:
    from tlm.study.sources import AgNewsSource

__all__ = ["count_hint", "identity", "read"]


def read(source: AgNewsSource, data_root: str, progress: Progress | None = None) -> Loaded:
    """Both parts, labelled 0–3. Raises UserError as `_labelled.read`."""
    return _labelled.read(source, data_root, progress, text_column="text", hub_folder="data")
