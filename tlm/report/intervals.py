"""Plots of values with their intervals, in rows: what the verdicts of a study rest on."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.typing import FillStyleType

from tlm.report.drawing import DASHED, INK, MARKERS, Plot, Point, add_legend, add_tip, color, told
from tlm.report.findings import PURE, Unit, Verdict
from tlm.report.matrix import ANSWER_OF, Answer, Matrix

LABEL_LETTERS = 56
TITLE = "What the verdicts rest on: established (green, full), refuted (red, half), open (blue, hollow)"
LOOKS: Mapping[Answer, tuple[int, FillStyleType]] = {
    "established": (2, "full"),
    "refuted": (1, "bottom"),
    "open": (0, "none"),
}
"""The colour of each answer, by its place among those of series, and how its marker is filled, for who sees no colour."""


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its 95 % interval, in the axis's unit, and the answer that it gave."""

    label: str
    value: float
    low: float
    high: float
    answer: Answer


def intervals(name: str, title: str, x: str, rows: Sequence[tuple[str, Sequence[Interval]]]) -> Plot:
    """Values with their intervals in rows, a line where nothing differs.

    Args:
        name: of the file.
        title: what stands above it.
        x: what stands at the horizontal axis.
        rows: (what stands to the left, values below each other): those of one label have one marker.
    """
    labels = list(dict.fromkeys(each.label for _, found in rows for each in found))
    names = [textwrap.fill(row, LABEL_LETTERS) for row, _ in rows]
    heights = [
        max(0.2 * (1 + name.count("\n")), 0.14 * len(found)) for name, (_, found) in zip(names, rows, strict=True)
    ]

    def draw() -> Figure:
        figure = Figure(figsize=(9.0, 1.5 + sum(height + 0.1 for height in heights)), layout="constrained")
        axes = figure.subplots()
        figure.suptitle(title, x=0.01, horizontalalignment="left", fontsize="medium")  # rows leave its axes little room
        axes.set_xlabel(x)
        for row, (claim, found) in enumerate(rows):
            for number, each in enumerate(found):
                y = row + 0.7 * ((number + 0.5) / len(found) - 0.5)
                marker = MARKERS[labels.index(each.label) % len(MARKERS)]
                ends = [[max(0.0, each.value - each.low)], [max(0.0, each.high - each.value)]]
                place, filled = LOOKS[each.answer]
                looks = {"color": color(place), "marker": marker, "fillstyle": filled, "markersize": 7, "capsize": 2}
                axes.errorbar([each.value], [y], xerr=ends, **looks)
                at = Point(y, each.value, each.low, each.high)
                add_tip(axes, each.value, y, f"{claim}, {each.label}: {each.answer}, {told(at)}")
        axes.axvline(0, color=INK, linewidth=1, linestyle=DASHED)
        axes.set_yticks(range(len(rows)), names)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        for number, label in enumerate(labels if len(labels) > 1 else ()):
            axes.plot([], [], color=INK, marker=MARKERS[number % len(MARKERS)], linestyle="none", label=label)
        if len(labels) > 1:
            add_legend(figure, axes)
        return figure

    return Plot(name, title, draw)


def of_verdicts(matrix: Matrix, name: str) -> Plot | None:
    """The estimates of the unit that most verdicts have, with their intervals, in the colours of their answers."""
    units = Counter(v.unit for _, cells in matrix.rows for cell in cells for v in cell if _has_interval(v))
    if not units:
        return None
    ((unit, _),) = units.most_common(1)
    rows = [
        (
            claim,
            [found for column, cell in zip(matrix.columns, cells, strict=True) for found in _shown(column, cell, unit)],
        )
        for claim, cells in matrix.rows
    ]
    return intervals(name, TITLE, _axis(unit), [row for row in rows if row[1]])


def _shown(column: str, verdicts: Sequence[Verdict], unit: Unit) -> Iterator[Interval]:
    scale = 1 if unit in PURE else 100
    for verdict in verdicts:
        found = verdict.estimate
        if found is not None and verdict.unit == unit and _has_interval(verdict):
            value, low, high = (scale * end for end in (found.value, found.low, found.high))
            yield Interval(column, value, low, high, ANSWER_OF[verdict.outcome])


def _has_interval(verdict: Verdict) -> bool:
    """Not what is exact, neither seeded nor uncertain: it may be a share of something else, far from all differences."""
    found = verdict.estimate
    return found is not None and verdict.half_width is not None and (found.seeds > 0 or found.half_width > 0)


def _axis(unit: Unit) -> str:
    return unit[0].upper() + unit[1:]
