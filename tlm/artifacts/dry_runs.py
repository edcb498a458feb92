"""Which artifacts are of a dry run: a training of theirs, or of what they were made from, was ended early."""

from __future__ import annotations

from collections.abc import Iterable

from tlm.artifacts.lineage import descendants
from tlm.artifacts.record import Record
from tlm.artifacts.step import Label, Step
from tlm.study.dry_run import is_dry_run

LABEL = "dry_run"
"""Of steps and records, there only if it is true. Earlier versions wrote none."""


def dry_run_label(is_dry: bool) -> dict[str, Label]:
    return {LABEL: True} if is_dry else {}


def is_of_dry_run(made: Step | Record) -> bool:
    """What its step or record alone tells."""
    return bool(made.labels.get(LABEL)) or is_dry_run(made.config)


def dry_runs(records: Iterable[Record]) -> set[str]:
    """The keys of those of these records. What a dry run shares with other studies (its corpus, say) is not among them."""
    known = list(records)
    graph = {record.key: record.input_keys.values() for record in known}
    return descendants(graph, (record.key for record in known if is_of_dry_run(record)))
