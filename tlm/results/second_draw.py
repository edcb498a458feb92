"""Do the gaps repeat on items that were never used before?

Each task stands in the study twice: as in the other studies, and as a draw of its own with another seed, under the same
name and `SECOND`. The models are pre-trained once, and fine-tuned on both. Conclusions were drawn with the first draw in
sight; what holds on the second is no luck of its items.
"""

from __future__ import annotations

from tlm.report.comparison import Comparison, adjusted, compare_measured, point, shown
from tlm.report.drawing import Plot, bars
from tlm.report.evidence import Evidence
from tlm.report.findings import NOT_KNOWN, NOT_MEASURED, ONE_SAMPLE, UNDECIDED, Findings, Outcome, Verdict
from tlm.report.formatting import NOT_AVAILABLE, Cell, Table, word
from tlm.statistics import Estimate
from tlm.statistics.independent import independent_difference, independent_p_value

SECOND = "-second"
"""How the second draw of a task is called after it."""

Place = tuple[str, str]
"""A task (by the name of its first draw) and an architecture."""


def analyse(evidence: Evidence) -> Findings:
    """The gap at the largest Ws on both draws, and their difference."""
    names = [task.name for task in evidence.study.tasks]
    archs = [arch.name for arch in evidence.study.architectures]
    places = [(name, arch) for name in names if f"{name}{SECOND}" in names for arch in archs]
    if not places:
        claim = "The gaps repeat on a second draw of items"
        return Findings([Verdict(claim, NOT_MEASURED, f"the study has no task and its {SECOND.strip('-')} draw")])
    ws = max(evidence.study.corpus.sizes)
    draws = [
        compare_measured(
            {
                (task, arch): (
                    evidence.correct(f"{task}{which}", arch, ws),
                    evidence.correct(f"{task}{which}", arch, 0),
                )
                for task, arch in places
            }
        )
        for which in ("", SECOND)
    ]
    both = [place for place in places if all(place in draw for draw in draws)]
    estimates = [independent_difference(*(draw[place].estimate for draw in reversed(draws))) for place in both]
    raw = [None if each.seeds == 1 else independent_p_value(each) for each in estimates]
    changes = {
        place: Comparison(str(place), estimate, p)
        for place, estimate, p in zip(both, estimates, adjusted(raw), strict=True)
    }
    return Findings(
        verdicts=[_repeats(evidence, place, ws, draws, changes.get(place)) for place in places],
        tables=[_table(evidence, places, ws, draws, changes)],
        plots=[_plot(evidence, places, ws, draws)],
        notes=[
            "To repeat means: on the second draw the gap has the sign that it has on the first and is established by "
            "itself, and the two gaps are not told apart (their difference is not resolved; Holm over all of them).",
            "Draws of one source may share items: what was a training item of the first may be a test item of the second. "
            "The difference is taken as if they shared none, nor a pre-trained model, which makes its interval longer.",
            ONE_SAMPLE,
        ],
    )


def _repeats(
    evidence: Evidence, place: Place, ws: int, draws: list[dict[Place, Comparison]], change: Comparison | None
) -> Verdict:
    task, arch = place
    claim = f"The gap of {arch} on {task} at Ws = {ws:,} repeats on a second draw of items"
    if change is None:
        return Verdict(claim, NOT_MEASURED, NOT_KNOWN)
    first, second = (draw[place] for draw in draws)
    outcome: Outcome = UNDECIDED
    if change.conclusive:
        outcome = "no"
    elif first.conclusive and second.conclusive and first.estimate.value * second.estimate.value > 0:
        outcome = "yes"
    figure = f"{second.estimate.text(signed=True)} after {first.estimate.text(signed=True)}: {change.text}"
    links = evidence.links(task, arch, (0, ws)) + evidence.links(f"{task}{SECOND}", arch, (0, ws))
    return Verdict(claim, outcome, figure, links=links, estimate=change.estimate)


def _table(
    evidence: Evidence,
    places: list[Place],
    ws: int,
    draws: list[dict[Place, Comparison]],
    changes: dict[Place, Comparison],
) -> Table:
    rows = []
    for place in places:
        task, arch = place
        cells = []
        for which, draw in zip(("", SECOND), draws, strict=True):
            links = evidence.links(f"{task}{which}", arch, [ws])
            cells += [shown(evidence.accuracy(f"{task}{which}", arch, ws), links), shown(draw.get(place))]
        change = changes.get(place)
        rows.append((word(task), word(arch), *cells, Cell(NOT_AVAILABLE) if change is None else Cell(change.text)))
    return Table(
        f"Gaps on two draws of items, Ws = {ws:,}",
        (
            *("Task", "Architecture", "First draw: accuracy, %", "gap, points"),
            *("Second draw: accuracy, %", "its gap, points", "Second gap minus first, points"),
        ),
        tuple(rows),
        "p-values of each draw, and of the differences, are one family (Holm).",
    )


def _plot(evidence: Evidence, places: list[Place], ws: int, draws: list[dict[Place, Comparison]]) -> Plot:
    def gap(found: Comparison | None) -> Estimate | None:
        return None if found is None else found.estimate

    series = []
    for name, draw in zip(("first draw", "second draw"), draws, strict=True):
        gaps = [gap(draw.get(place)) for place in places]
        series.append((name, [None if each is None else point(0, each) for each in gaps]))
    title = f"The gap at Ws = {ws:,} on two draws of items"
    return bars(
        f"{evidence.study.name}-gaps", title, "Gap, points", [f"{task}, {arch}" for task, arch in places], series
    )
