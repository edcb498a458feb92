"""Which files of an artifact MLflow gets a copy of."""

from __future__ import annotations

from tlm.artifacts.record import Record
from tlm.stages import STAGES

LOGGED = (".parquet", ".txt", ".png", "findings.json")
PAGES = (".html", ".md")
"""What MLflow's interface shows as a page: only of stages whose pages are always made here (`tlm.execution.pages`)."""
LOGGED_BYTES = 20_000_000
"""Files up to this size are copied to MLflow; larger ones stay in the store, whose record names their digest."""


def is_logged(record: Record, name: str) -> bool:
    """Whether MLflow gets this one of the artifact's files. A source's texts are left where they are."""
    if record.stage == "source" or record.outputs[name].bytes > LOGGED_BYTES:
        return False
    if name.endswith(PAGES):
        return STAGES[record.stage].pages and name in STAGES[record.stage].outputs
    return name.endswith(LOGGED)
