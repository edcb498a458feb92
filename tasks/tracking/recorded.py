"""What a record says of the MLflow run that made its artifact."""

from __future__ import annotations

import re
from datetime import datetime

from tlm.artifacts.record import Record, device_of

MORE_TAGS = {"study": "study", "rebuilt_because": "tlm.rebuilt_because", "imported_from": "tlm.imported_from"}
"""What a record's `mlflow` says beside where the run is, and the tag that the run has for it."""


def recorded_run(record: Record) -> str:
    """The id of the run; "" if MLflow gave none, because it did not answer or was not asked."""
    return _id((record.mlflow or {}).get("run_id", ""))


def recorded_parent(record: Record) -> str:
    """The id of the study's run that it belongs to; "" if an older record does not say."""
    return _id((record.mlflow or {}).get("parent_run_id", ""))


def miss_tags(record: Record) -> dict[str, str]:
    """The tags of the run beside those that follow from its step."""
    known = record.mlflow or {}
    tags = {tag: known[name] for name, tag in MORE_TAGS.items() if name in known}
    if "imported_from" in known:
        tags["device"] = device_of(record)
    return {"tlm.cache": "miss", **tags}


def mark(record: Record) -> str:
    """What tells a run that was made from a record from the runs of earlier artifacts with its key."""
    return recorded_run(record) or datetime.fromisoformat(record.created).isoformat()


def finished(record: Record) -> int:
    """When the artifact was finished, in milliseconds since 1970."""
    return round(datetime.fromisoformat(record.created).timestamp() * 1000)


def started(record: Record) -> int:
    """When the work on it began, in milliseconds since 1970."""
    return finished(record) - round(record.seconds * 1000)


def _id(text: str) -> str:
    """A run's id as it may stand in a query; records come from other machines, too."""
    return text if re.fullmatch(r"[0-9A-Za-z_-]{1,64}", text) else ""
