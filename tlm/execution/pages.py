"""Pages that came from another machine: never taken over, but made again here from the artifacts that they are about.

A report is HTML. People open it in a browser, and MLflow's interface shows it beside its own: one that others wrote could
run there whatever they like, in the user's name. Its numbers are those of the artifacts, so nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tlm.artifacts.record import Record
from tlm.artifacts.step import ArtifactRef, Step
from tlm.artifacts.store import ArtifactStore
from tlm.execution.importing import Survey
from tlm.stages import STAGES


def is_page(ref: ArtifactRef) -> bool:
    """Whether it is made of pages that a browser shows."""
    return STAGES[ref.stage].pages


def set_apart(found: Survey) -> tuple[Survey, tuple[Record, ...]]:
    """A survey without pages, and the records of those it would have brought."""
    pages = tuple(record for record in found.new if is_page(record.ref))
    return replace(found, new=tuple(record for record in found.new if not is_page(record.ref))), pages


def make_again(
    pages: tuple[Record, ...], source: ArtifactStore, run: Callable[[Step], object]
) -> tuple[tuple[ArtifactRef, ...], dict[str, str]]:
    """Make pages in this store, once their inputs are in it.

    Args:
        pages: their records, which are not trusted any more than the pages are.
        source: the store that holds them as they came.
        run: makes a step (`tlm.execution.execute.execute`).
    Returns:
        Those that were made, and for the name of each other one the reason.
    """
    made, refused = [], {}
    for record in pages:
        try:
            run(_step_of(record, source))
        except Exception as error:  # whatever its data do to the code that draws it
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            refused[str(record.ref)] = f"pages are made again here, and this one cannot be: {reason}"
        else:
            made.append(record.ref)
    return tuple(made), refused


def _step_of(record: Record, source: ArtifactStore) -> Step:
    return Step(
        stage=record.stage,
        version=record.version,
        config=record.config,
        inputs=record.inputs,
        slug=record.slug,
        labels=record.labels,
        access=STAGES[record.stage].read_back(source.get(record.ref)),
    )
