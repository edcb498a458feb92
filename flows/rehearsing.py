"""What `tlm plan` says of a study's verdicts before it runs: the half-width of each (`tlm.results.rehearsal`)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from tlm.machine.runtime import PACKAGE_PARENT, Runtime
from tlm.planning.plan import Plan

if TYPE_CHECKING:
    from tlm.results.rehearsal import Expected
    from tlm.results.variances import Variances

WIDE = 2.0
"""Points: a verdict with a wider interval is left undecided by differences that matter here."""
PUBLISHED = PACKAGE_PARENT / "docs" / "published"
"""Results that the repository holds; there are none in an installed wheel."""


def show_verdicts(planned: Plan, items: Mapping[str, Mapping[str, int]], runtime: Runtime, console: Console) -> None:
    """Print each verdict of the study with the half-width to expect, and where its variances are from. Writes nothing."""
    if planned.study.analysis is None:
        return
    from tlm.results.rehearsal import REHEARSALS, rehearse

    with console.status("rehearsing"):
        variances, source = variances_so_far(runtime)
        expected = rehearse(planned.study, planned.steps, items, variances)
    table = Table()
    table.add_column("verdict")
    table.add_column("half-width to expect", justify="right")
    for each in expected:
        table.add_row(each.claim, _width(each))
    console.print(table)
    for line in (*_summary(expected), f"From {REHEARSALS} rehearsals, results made up with {source}."):
        console.print(line, highlight=False, soft_wrap=True)


def variances_so_far(runtime: Runtime) -> tuple[Variances, str]:
    """What results have varied by so far, and where that was seen: in this home, in what is published, or assumed."""
    import duckdb

    from tlm.artifacts import catalogue
    from tlm.errors import UserError
    from tlm.results.published import folders, load
    from tlm.results.variances import ASSUMED, Variances, measured

    unreadable = ""
    if runtime.catalogue.is_file():
        try:
            with catalogue.connect(runtime.catalogue) as connection:
                found = measured([connection])
        except (UserError, duckdb.Error) as error:
            unreadable = f" (the catalogue of this home cannot be read: {' '.join(str(error).split())})"
        else:
            if found.tasks:
                return found, f"the variances of {found.runs:,} runs in this home, on {', '.join(found.tasks)}"
    marts = []
    with ExitStack() as opened:
        for place in folders(PUBLISHED):
            try:
                marts.append(opened.enter_context(load(place).open()))
            except UserError as error:
                unreadable += f" (left out: {error.problem.rstrip('.')})"
        found = measured(marts)
    if found.tasks:
        return found, f"the variances of {found.runs:,} published runs, on {', '.join(found.tasks)}{unreadable}"
    return Variances(), f"assumed variances{unreadable}: {ASSUMED}"


def _width(each: Expected) -> str:
    return each.missing if each.half_width is None else f"{each.half_width:.1f} {each.unit}"


def _summary(expected: list[Expected]) -> list[str]:
    widths = [each.half_width for each in expected if each.half_width is not None and each.unit == "points"]
    if not widths:
        return []
    wide = sum(width > WIDE for width in widths)
    said = f"Half-widths of {len(widths)} verdicts in points: median {median(widths):.1f}, widest {max(widths):.1f}"
    return [f"{said}; {wide} of them wider than {WIDE:g}." if wide else f"{said}."]
