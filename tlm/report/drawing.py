"""How plots are drawn: SVG that follows the page's colours (light or dark), and PNG for Markdown."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

INK = "#20262e"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#a06a00", "#5b6fd6", "#4f8a10")
"""Okabe-Ito's colours, told apart by colour-blind readers, with darker stand-ins for its two lightest."""
MARKERS = "osD^vPX"
GRID = "#c9ced6"
BELOW = "outside lower center"
TIP = "tip: "
DASHED = (0, (4, 3))
STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "tlm",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.markersize": 5,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}


@dataclass(frozen=True)
class Plot:
    """A plot, drawn when `png` or `svg` is first looked at; without `draw`, `missing` says why there is nothing to draw."""

    name: str
    title: str
    draw: Callable[[], Figure] | None = field(default=None, repr=False)
    missing: str = ""

    @cached_property
    def png(self) -> bytes:
        """Empty if there is nothing to draw."""
        return b"" if self._figure is None else as_png(self._figure)

    @cached_property
    def svg(self) -> str:
        """An <svg> element to stand in a page; empty if there is nothing to draw."""
        return "" if self._figure is None else as_svg(self._figure, self.name, self.title)

    @cached_property
    def _figure(self) -> Figure | None:
        with mpl.rc_context(STYLE):
            return self.draw() if self.draw else None


@dataclass(frozen=True)
class Point:
    """A value at `x` with the ends of its 95 % interval, in the axis's unit."""

    x: float
    y: float
    low: float
    high: float
    at: str = ""
    """What is said of `x` to who points at it."""


def lines(
    name: str,
    title: str,
    x: str,
    y: str,
    series: Sequence[tuple[str, Sequence[Point]]],
    *,
    levels: Sequence[tuple[str, float]] = (),
    own_levels: Mapping[str, float] | None = None,
    log: bool = False,
    missing: str = "Nothing of this was measured.",
) -> Plot:
    """Series of points with error bars against a number, and horizontal lines at `levels`.

    Args:
        name: of the file.
        title: what stands above it.
        x: what stands at the horizontal axis.
        y: what stands at the vertical axis.
        series: (label, points); a series without a point is left out.
        levels: (label, y) of lines that belong to no series.
        own_levels: label of a series → its accuracy from scratch, dashed in its colour.
        log: a logarithmic x axis with a tick at every point.
        missing: what is said instead where no series has a point.
    """
    drawn = [(label, points) for label, points in series if points]

    def draw() -> Figure:
        figure, axes = new_figure(title, x, y)
        for place, (label, points) in enumerate(drawn):
            beside = 1.0 + 0.012 * (place - (len(drawn) - 1) / 2) if log else 1.0
            draw_points(
                axes, [replace(point, x=point.x * beside, at=f" at {point.x:,.6g}") for point in points], place, label
            )
            if own_levels and label in own_levels:
                axes.axhline(own_levels[label], color=color(place), linewidth=1, linestyle=DASHED)
        if own_levels:
            axes.plot([], [], color=INK, linewidth=1, linestyle=DASHED, label="from scratch (same colour)")
        for place, (label, level) in enumerate(levels):
            axes.axhline(level, color=INK, linewidth=1.1, linestyle=((0, (1, 2 + 2 * place))), label=label)
        if log:
            ticks = sorted({point.x for _, points in drawn for point in points})
            axes.set_xscale("log")
            axes.set_xticks(ticks)
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        elif all(float(point.x).is_integer() for _, points in drawn for point in points):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
        add_legend(figure, axes)
        return figure

    return Plot(name, title, draw) if drawn else Plot(name, title, missing=missing)


def bars(
    name: str, title: str, y: str, groups: Sequence[str], series: Sequence[tuple[str, Sequence[Point | None]]]
) -> Plot:
    """Values by group, series side by side, as points with error bars (a bar's length would start at 0 for nothing).

    Args:
        series: (label, a point for each group or None); `x` of the points is not used.
    """

    def draw() -> Figure:
        figure, axes = new_figure(title, "", y)
        for place, (label, points) in enumerate(series):
            offset = 0.5 * ((place + 0.5) / len(series) - 0.5)
            there = [replace(point, x=group + offset) for group, point in enumerate(points) if point]
            draw_points(axes, there, place, label, linestyle="none")
        axes.set_xticks(range(len(groups)), groups)
        axes.set_xlim(-0.6, len(groups) - 0.4)
        add_legend(figure, axes)
        return figure

    if not any(point for _, points in series for point in points):
        return Plot(name, title, missing="Nothing of this was measured.")
    return Plot(name, title, draw)


# --- what these and the report's own plots are made of ---


def new_figure(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    """An empty figure of one plot, with what stands above it and at its axes."""
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    return figure, axes


def draw_points(axes: Axes, points: Sequence[Point], place: int, label: str, *, linestyle: str = "-") -> None:
    """The `place`-th series of a plot, its points in the order of x, each with its interval as error bars."""
    ordered = sorted(points, key=lambda point: point.x)
    axes.errorbar(
        [point.x for point in ordered],
        [point.y for point in ordered],
        yerr=[[max(0.0, p.y - p.low) for p in ordered], [max(0.0, p.high - p.y) for p in ordered]],
        color=color(place),
        marker=MARKERS[place % len(MARKERS)],
        linestyle=linestyle,
        linewidth=1.6,
        capsize=3,
        elinewidth=1,
        label=label,
    )
    for point in ordered:
        add_tip(axes, point.x, point.y, f"{label}{point.at}: {told(point)}")


def told(point: Point) -> str:
    """`93.6 [92.9, 94.3]`, or the value alone where it has no interval, with true minus signs."""
    interval = "" if point.low == point.high else f" [{point.low:,.4g}, {point.high:,.4g}]"
    return f"{point.y:,.4g}{interval}".replace("-", "\N{MINUS SIGN}")


def add_tip(axes: Axes, x: float, y: float, text: str) -> None:
    """What is said of a point when one points at it in a page: an unseen mark's name, of which `_inline` makes a title.

    It lies above all that is seen, or nothing would be said where the point is; and is small, or it would hide the next.
    """
    axes.plot([x], [y], "o", color=INK, markersize=10, alpha=0, zorder=10, gid=f"{TIP}{text}")


def color(place: int) -> str:
    """Of the `place`-th series; colours repeat after the last one."""
    return SERIES[place % len(SERIES)]


def add_legend(figure: Figure, axes: Axes) -> Legend:
    """Put the legend below the plot, in as many columns as the figure is wide enough for, at most four."""
    handles, labels = axes.get_legend_handles_labels()
    renderer = FigureCanvasAgg(figure).get_renderer()
    for columns in range(min(4, len(labels)), 1, -1):
        legend = figure.legend(handles, labels, loc=BELOW, ncols=columns)
        if legend.get_window_extent(renderer).width <= figure.bbox.width:
            return legend
        legend.remove()
    return figure.legend(handles, labels, loc=BELOW, ncols=1)


def as_png(figure: Figure) -> bytes:
    png = io.BytesIO()
    with mpl.rc_context(STYLE):
        FigureCanvasAgg(figure).print_png(png, metadata={"Software": None})
    return png.getvalue()


def as_svg(figure: Figure, name: str, title: str) -> str:
    """The figure as an <svg> element that can stand in a page beside others."""
    svg = io.StringIO()
    with mpl.rc_context(STYLE):
        FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inline(svg.getvalue(), name, title)


def _inline(svg: str, name: str, title: str) -> str:
    """The <svg> element alone, made to stand in a page.

    It has the page's colours, ids of its own, no fixed size, no link, and a name for screen readers.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="patch_1">.*?</g>', "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'(<g id="patch_2">\s*<path [^>]*?fill: )#ffffff', r"\1none", svg, count=1)
    svg = (
        re.sub(r' (?:width|height|xmlns(?::xlink)?|version)="[^"]*"', "", svg.split(">", 1)[0])
        + ">"
        + svg.split(">", 1)[1]
    )
    svg = re.sub(rf'<g id="{TIP}([^"]*)">', r'<g data-tip=""><title>\1</title>', svg)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = svg.replace("fill: #ffffff", "fill: none").replace(INK, "var(--ink)").replace(GRID, "var(--grid)")
    for place, color in enumerate(SERIES):
        svg = svg.replace(color, f"var(--series-{place})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1)
