"""How does the gap depend on Ws, the number of paragraphs that were pre-trained on? (paper: Table 3)

The gap is an architecture's accuracy after pre-training minus that of the same architecture from scratch.
"""

from __future__ import annotations

import numpy as np

from tlm.report.comparison import Comparison, compare_measured, point, shown, verdict
from tlm.report.drawing import Plot, lines
from tlm.report.evidence import Evidence
from tlm.report.findings import NOT_MEASURED, ONE_SAMPLE, UNDECIDED, Findings, Outcome, Verdict
from tlm.report.formatting import NOT_AVAILABLE, Cell, Table, corpus_label, percent, word
from tlm.report.study_systems import svd_only
from tlm.statistics import Estimate, mean_accuracy
from tlm.statistics.contrast import share_of_gap
from tlm.statistics.runs import LEAST_ITEMS

TABLE_3_WS = 90_000
TABLE_3_SHARE = (0.5, 0.9)
"""Paper, Table 3: Ws = 90,000 reaches 50 to 90 % of the gap of full pre-training."""

Place = tuple[str, str]
"""A task and an architecture."""
Gaps = dict[tuple[str, str, int], Comparison]
Shares = dict[tuple[str, str, int], Estimate | None]
"""Of the largest Ws's gap, where that is resolved."""


def analyse(evidence: Evidence) -> Findings:
    """Gap at each Ws, whether it grows, and which share of the largest Ws's gap each Ws reaches."""
    sizes = [ws for ws in evidence.study.corpus.sizes if ws]
    places = [(task.name, arch.name) for task in evidence.study.tasks for arch in evidence.study.architectures]
    gaps = measured_gaps(evidence, places, sizes)
    growth = compare_measured(
        {
            place: (evidence.correct(*place, own[-1]), evidence.correct(*place, own[0]))
            for place in places
            if len(own := _sizes(evidence, place)) > 1
        }
    )
    shares = {
        (*place, ws): _share(evidence, place, ws, max(sizes))
        for place in places
        for ws in sizes
        if (gap := gaps.get((*place, max(sizes)))) is not None and gap.resolved
    }
    return Findings(
        verdicts=[
            *(_helps(evidence, gaps, place, max(sizes, default=0)) for place in places),
            *(_grows(evidence, growth.get(place), place, _sizes(evidence, place)) for place in places),
            *_table_3(evidence, gaps, shares, places, sizes),
        ],
        tables=[
            _accuracy_table(evidence, gaps, shares, places, sizes),
            *_clean_tables(evidence, places, max(sizes, default=0)),
        ],
        plots=[
            *(_accuracy_plot(evidence, task.name, sizes) for task in evidence.study.tasks),
            _gap_plot(evidence, gaps),
        ],
        notes=_notes(sizes),
    )


def _sizes(evidence: Evidence, place: Place) -> list[int]:
    """The Ws that an architecture is pre-trained on, the smallest first."""
    return [ws for ws in evidence.study.sizes_of(place[1]) if ws]


def measured_gaps(evidence: Evidence, places: list[Place], sizes: list[int]) -> Gaps:
    """The gaps at the largest Ws, corrected as one family: the question; those at smaller Ws are another."""
    families = ([max(sizes)], [ws for ws in sizes if ws != max(sizes)]) if sizes else ()
    return {
        place: gap
        for family in families
        for place, gap in compare_measured(
            {(*p, ws): (evidence.correct(*p, ws), evidence.correct(*p, 0)) for p in places for ws in family}
        ).items()
    }


def _share(evidence: Evidence, place: Place, ws: int, largest: int) -> Estimate | None:
    part, whole, base = (evidence.correct(*place, size) for size in (ws, largest, 0))
    if part is None or whole is None or base is None or ws == largest:
        return None
    return share_of_gap(part, whole, base)


# --- verdicts ---


def _helps(evidence: Evidence, gaps: Gaps, place: Place, largest: int) -> Verdict:
    claim = f"Pre-training on {largest:,} paragraphs helps {place[1]} on {place[0]}"
    links = evidence.links(*place, (0, largest))
    return verdict(claim, gaps.get((*place, largest)), paper=True, links=links)


def _grows(evidence: Evidence, growth: Comparison | None, place: Place, sizes: list[int]) -> Verdict:
    ends = f"from Ws = {min(sizes):,} to {max(sizes):,}" if sizes else "with Ws"
    claim = f"The gap of {place[1]} on {place[0]} grows {ends}"
    links = evidence.links(*place, (sizes[0], sizes[-1])) if sizes else ()
    return verdict(claim, growth, paper=True, links=links)


def _table_3(evidence: Evidence, gaps: Gaps, shares: Shares, places: list[Place], sizes: list[int]) -> list[Verdict]:
    """One verdict for each task and architecture where a Ws as large as the paper's, and a larger one, was measured."""
    low, high = (f"{100 * end:.0f}" for end in TABLE_3_SHARE)
    paper = f"{low} to {high} % at Ws = {TABLE_3_WS:,} (Table 3)"
    ws = next((size for size in sorted(sizes) if size >= TABLE_3_WS and size != max(sizes)), None)
    if ws is None:
        reach = f"the largest Ws here is {max(sizes):,}" if sizes else "nothing was pre-trained"
        return [Verdict(f"Ws = {TABLE_3_WS:,} reaches much of the largest gap", NOT_MEASURED, reach, paper)]
    verdicts = []
    for place in places:
        claim = f"Ws = {ws:,} reaches {low} to {high} % of the gap at Ws = {max(sizes):,}, {place[1]} on {place[0]}"
        share = shares.get((*place, ws))
        unresolved = all(evidence.correct(*place, size) is not None for size in (0, ws, max(sizes)))
        links = evidence.links(*place, (0, ws, max(sizes)))
        if share is None:
            whole = gaps.get((*place, max(sizes)))
            outcome: Outcome = UNDECIDED if unresolved else NOT_MEASURED
            figure = "the gap at the largest Ws is not resolved" if unresolved else NOT_AVAILABLE
            verdicts.append(Verdict(claim, outcome, figure, paper, links, whole.estimate if whole else None))
        else:
            figure = f"{share.text()} %"
            verdicts.append(Verdict(claim, _judge_share(share), figure, paper, links, share, "% of the gap"))
    return verdicts


def _judge_share(share: Estimate) -> Outcome:
    """Reproduced if the whole interval lies inside the paper's range, not reproduced if the whole of it lies outside."""
    low, high = TABLE_3_SHARE
    if share.seeds == 1:
        return UNDECIDED
    if low <= share.low and share.high <= high:
        return "reproduced"
    return "not reproduced" if share.high < low or share.low > high else UNDECIDED


# --- tables ---


def _accuracy_table(
    evidence: Evidence,
    gaps: Gaps,
    shares: Shares,
    places: list[Place],
    sizes: list[int],
) -> Table:
    rows = []
    for place in places:
        for ws in evidence.study.sizes_of(place[1]):
            share = shares.get((*place, ws))
            of_largest = Cell(NOT_AVAILABLE if share is None else share.text())
            if (*place, ws) in shares and ws == max(sizes):
                of_largest = Cell("100 (by definition)")
            links = evidence.links(*place, [ws])
            rows.append(
                (
                    *(word(name) for name in place),
                    Cell(corpus_label(ws, None)),
                    shown(evidence.accuracy(*place, ws), links),
                    shown(gaps.get((*place, ws))) if ws else Cell(NOT_AVAILABLE),
                    of_largest,
                )
            )
    return Table(
        "Accuracy and gap by Ws",
        ("Task", "Architecture", "Ws", "Accuracy, %", "Gap, points", "Share of the largest Ws's gap, %"),
        tuple(rows),
        "Gap: pre-trained minus scratch. p-values are corrected (Holm) in two families, the largest Ws and all smaller "
        "ones. Share: Fieller's interval over seeds and items; n/a where the gap at the largest Ws is not resolved.",
    )


def _clean_tables(evidence: Evidence, places: list[Place], largest: int) -> list[Table]:
    """What is left of the gap on test items that the largest pre-training set does not hold word for word."""
    clean_of = {task.name: evidence.clean(task.name, largest) for task in evidence.study.tasks}
    pairs = {}
    for place in places:
        clean, pretrained, scratch = clean_of[place[0]], evidence.correct(*place, largest), evidence.correct(*place, 0)
        if clean is not None and clean.sum() >= LEAST_ITEMS and pretrained is not None and scratch is not None:
            pairs[place] = (pretrained[..., clean], scratch[..., clean])
    gaps = compare_measured(pairs)
    rows = [
        (
            *(word(name) for name in place),
            percent(None if (clean := clean_of[place[0]]) is None else 1 - float(np.mean(clean))),
            shown(mean_accuracy(pairs[place][0]) if place in pairs else None),
            shown(gaps.get(place)),
        )
        for place in places
    ]
    if all(clean is None for clean in clean_of.values()):
        return []
    return [
        Table(
            f"Test items that stand in the pre-training set of Ws = {largest:,}, and accuracy without them",
            ("Task", "Architecture", "Near-duplicates, %", "Accuracy on the others, %", "Gap on the others, points"),
            tuple(rows),
            "A near-duplicate shares a run of 13 tokens with the pre-training set. p-values are one family (Holm).",
        )
    ]


# --- plots and notes ---


def _accuracy_plot(evidence: Evidence, task: str, sizes: list[int]) -> Plot:
    series, levels = [], []
    for arch in evidence.study.architectures:
        for system in (arch.name, *((svd_only(arch.name),) if evidence.study.svd_arm else ())):
            measured = {ws: evidence.accuracy(task, system, ws) for ws in sizes}
            series.append((system, [point(ws, found) for ws, found in measured.items() if found]))
        scratch = evidence.accuracy(task, arch.name, 0)
        levels += [(f"{arch.name}, scratch", 100 * scratch.value)] if scratch else []
    baseline = evidence.baseline(task)
    levels += [("TF-IDF", 100 * float(baseline.mean()))] if baseline is not None else []
    name, title = f"{evidence.study.name}-{task}", f"{task}: accuracy against Ws"
    return lines(name, title, "Ws, paragraphs", "Test accuracy, %", series, levels=levels, log=True)


def _gap_plot(evidence: Evidence, gaps: Gaps) -> Plot:
    series = {
        f"{task}, {arch}": [point(ws, gap.estimate) for (*place, ws), gap in gaps.items() if place == [task, arch]]
        for task, arch, _ in gaps
    }
    title = "Gap (pre-trained minus scratch) against Ws"
    return lines(
        f"{evidence.study.name}-gap",
        title,
        "Ws, paragraphs",
        "Gap, points",
        [*series.items()],
        levels=[("0", 0.0)],
        log=True,
    )


def _notes(sizes: list[int]) -> list[str]:
    largest = f"{max(sizes):,} paragraphs" if sizes else "nothing"
    return [
        ONE_SAMPLE,
        f"The paper's maximal gap is that of full pre-training; here it is that of the largest Ws, {largest}, so that "
        "shares are larger than they would be of the paper's.",
        "The reference code reports the best epoch on test items. Here test items are looked at once, after the last "
        "epoch: what that habit would add is n/a.",
        "How the training of the named scales was chosen: docs/scales.md; for tiny also what else was tried.",
    ]
