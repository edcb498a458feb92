"""What a study found already made: a table beside its run, which names for each artifact the run that made it."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.tracking import runs
from tasks.tracking.view import View
from tlm.artifacts.step import ArtifactRef

HITS_FILE = "cached_steps.json"
NOT_TRACKED = "not tracked"
"""Of what no run made that MLflow could show."""


def log_hits(view: View, run_id: str, hits: Sequence[ArtifactRef]) -> None:
    """Log the table of hits with a study's run. What MLflow missed when it was made is logged now, by its study's run.

    Args:
        hits: each under the name that this study has for it.
    """
    columns = ("stage", "slug", "step_key", "made_by_run")
    rows = [(hit.stage, hit.slug, hit.key, _maker(view, hit)) for hit in hits]
    if rows:
        runs.log_table(view.client, run_id, HITS_FILE, columns, rows)


def _maker(view: View, hit: ArtifactRef) -> str:
    record = view.store.inspect(hit, verify=False).record
    return (record and view.made(record)) or NOT_TRACKED
