"""The report's plots: SVG that follows the page's colours (light or dark), and PNG for the Markdown twin."""

from __future__ import annotations

import html
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from tlm import catalogue
from tlm.config import StudyConfig, slugify
from tlm.report.cells import corpus_label
from tlm.report.data import Gaps, corpora, rows

if TYPE_CHECKING:
    from tlm.catalogue import Connection

INK = "#20262e"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#a06a00", "#5b6fd6", "#4f8a10")
"""Okabe-Ito's colours, told apart by colour-blind readers, with darker stand-ins for its two lightest."""
MARKERS = "osD^vPX"
GRID = "#c9ced6"
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
    """A drawn plot, or (`png` and `svg` empty) what is missing to draw it."""

    name: str
    title: str
    png: bytes = b""
    svg: str = ""
    missing: str = ""


def accuracy_by_ws(gaps: Gaps, study: StudyConfig, task: str) -> Plot:
    """Accuracy of each architecture and soft committee against Ws; scratch and TF-IDF as horizontal lines."""
    name, title = f"accuracy-{slugify(task)}", f"Accuracy against Ws: {task}"
    sizes = [ws for ws in study.corpus.sizes if ws]
    with mpl.rc_context(STYLE):
        figure, axes = _figure(title, "Ws, paragraphs in the pre-training set", "Test accuracy, %")
        series: list[tuple[str, str, str | None]] = [("finetune", arch.name, None) for arch in study.architectures]
        series += [("committee", committee.name, "soft") for committee in study.committees]
        drawn = False
        for place, (kind, system, rule) in enumerate(series):
            look = {"kind": kind, "system": system, "rule": rule, "task": task, "injection": None}
            label = f"{system} (soft)" if rule else system
            # Side by side, so that equal accuracies and their error bars do not hide each other.
            beside = 1.02 ** (place - (len(series) - 1) / 2)
            found = [row for ws in sizes if (row := gaps.find(ws=ws, **look))]
            drawn |= _line(axes, [{**row, "ws": row["ws"] * beside} for row in found], "ws", place, label)
            if scratch := gaps.find(ws=0, **look):
                axes.axhline(100 * scratch["accuracy"], color=_color(place), linewidth=1, linestyle=(0, (4, 3)))
        if not drawn:
            return Plot(name, title, missing=f"No model that starts from a pre-trained one was measured on {task}.")
        if tfidf := gaps.find(kind="baseline", system="tfidf", task=task):
            axes.axhline(100 * tfidf["accuracy"], color=INK, linewidth=1.2, linestyle=":", label="TF-IDF")
        axes.plot([], [], color=INK, linewidth=1, linestyle=(0, (4, 3)), label="from scratch (same colour)")
        axes.set_xscale("log")
        axes.set_xticks(sizes)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_xlim(min(sizes) / 1.25, max(sizes) * 1.25)
        return _drawn(figure, axes, name, title)


def accuracy_by_missing_tokens(connection: Connection, task: str) -> Plot:
    """Accuracy against the number of the task's tokens that the pre-training set lacks, at fixed Ws."""
    name, title = f"missing-tokens-{slugify(task)}", f"Accuracy against missing tokens: {task}"
    found = rows(connection, catalogue.ready_query("missing_tokens_against_accuracy"))
    lines: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in found:
        if row["task"] == task and row["missing_from_corpus"] is not None:
            lines.setdefault((row["system"], row["ws"]), []).append(row)
    if not lines:
        return Plot(name, title, missing=f"No injection of missing tokens was measured on {task}.")
    with mpl.rc_context(STYLE):
        figure, axes = _figure(title, "Distinct task tokens missing from the pre-training set", "Test accuracy, %")
        for place, ((system, ws), points) in enumerate(lines.items()):
            _line(axes, points, "missing_from_corpus", place, f"{system}, Ws = {ws:,}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
        return _drawn(figure, axes, name, title)


def committee_size(connection: Connection, study: StudyConfig, task: str) -> Plot:
    """Accuracy of the committee of the first n members, by the soft rule, one line for each Ws."""
    name, title = f"committee-{slugify(task)}", f"Accuracy against committee size: {task}"
    found = rows(
        connection,
        "select * from committee_curve where rule = 'soft' order by committee, ws, key, size",
    )
    order = [committee.name for committee in study.committees]
    lines: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in found:
        if row["task"] == task and row["committee"] in order:
            lines.setdefault((row["committee"], row["ws"]), []).append(row)
    if not lines:
        return Plot(name, title, missing=f"The study has no committee on {task}.")
    with mpl.rc_context(STYLE):
        figure, axes = _figure(title, "Members (the first n of the committee)", "Test accuracy, %")
        for place, ((committee, ws), points) in enumerate(lines.items()):
            _line(axes, points, "size", place, f"{committee}, Ws = {corpus_label(ws, None)}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return _drawn(figure, axes, name, title)


def pretraining_loss(connection: Connection, study: StudyConfig) -> Plot:
    """Held-out loss by step, one panel for each pre-training set, one line for each architecture and seed."""
    name, title = "pretraining-loss", "Pre-training: loss on held-out text"
    found = rows(
        connection,
        """select * from metrics where stage = 'pretrain' and name = 'heldout_loss'
        order by ws, injection nulls first, arch, pretrain_seed, key, step""",
    )
    if not found:
        return Plot(name, title, missing="No pre-training curve was recorded.")
    panels = list(dict.fromkeys((row["ws"], row["injection"]) for row in found))
    names = [arch.name for arch in study.architectures]
    columns = min(3, len(panels))
    lines_of_panels = -(-len(panels) // columns)
    with mpl.rc_context(STYLE):
        size = (max(6.4, 3.1 * columns), 0.6 + 2.9 * lines_of_panels)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(lines_of_panels, columns, sharey=True, squeeze=False)
        flat = [axes for line in grid for axes in line]
        for axes, panel in zip(flat, panels, strict=False):
            axes.set_title(f"Ws = {corpus_label(*panel)}", fontsize=9.5)
            axes.set_xlabel("Step")
            curves: dict[tuple[str, str], list[dict[str, Any]]] = {}
            for row in found:
                if (row["ws"], row["injection"]) == panel:
                    curves.setdefault((row["arch"], row["key"]), []).append(row)
            for (arch, _), points in curves.items():
                place = names.index(arch) if arch in names else len(names)
                x, y = [row["step"] for row in points], [row["value"] for row in points]
                marker = MARKERS[place % len(MARKERS)] if len(points) < 12 else ""
                axes.plot(x, y, color=_color(place), marker=marker, linewidth=1.5, markersize=4, label=arch)
        for axes in flat[len(panels) :]:
            axes.set_visible(False)
        for line in grid:
            line[0].set_ylabel("Held-out loss, nats")
        handles = {
            label: handle for axes in flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(6, len(handles)))
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        return _saved(figure, name, title)


def all_plots(connection: Connection, gaps: Gaps, study: StudyConfig) -> dict[str, list[Plot]]:
    """Section → its plots, the ones without data among them."""
    tasks = [task.name for task in study.tasks]
    injected = [task for task in tasks if any(injection for _, injection in corpora(study, task))]
    return {
        "results": [accuracy_by_ws(gaps, study, task) for task in tasks],
        "missing": [accuracy_by_missing_tokens(connection, task) for task in injected or tasks[:1]],
        "committee": [committee_size(connection, study, task) for task in tasks],
        "pretraining": [pretraining_loss(connection, study)],
    }


# --- inside ---


def _figure(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    return figure, axes


def _line(axes: Axes, points: list[dict[str, Any]], x: str, place: int, label: str) -> bool:
    """Draw `points` with error bars of two standard errors, where they have one; False if there is none to draw."""
    there = sorted(points, key=lambda point: point[x])
    if not there:
        return False
    xs, ys = [point[x] for point in there], [100 * point["accuracy"] for point in there]
    marker, color = MARKERS[place % len(MARKERS)], _color(place)
    if "standard_error" in there[0]:
        bars = [200 * point["standard_error"] for point in there]
        axes.errorbar(
            xs, ys, yerr=bars, color=color, marker=marker, linewidth=1.6, capsize=3, elinewidth=1, label=label
        )
    else:
        axes.plot(xs, ys, color=color, marker=marker, linewidth=1.6, label=label)
    return True


def _color(place: int) -> str:
    return SERIES[place % len(SERIES)]


def _drawn(figure: Figure, axes: Axes, name: str, title: str) -> Plot:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))
    return _saved(figure, name, title)


def _saved(figure: Figure, name: str, title: str) -> Plot:
    png, svg = io.BytesIO(), io.StringIO()
    FigureCanvasAgg(figure).print_png(png, metadata={"Software": None})
    FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return Plot(name, title, png.getvalue(), _inline(svg.getvalue(), name, title))


def _inline(svg: str, name: str, title: str) -> str:
    """The <svg> element alone: the page's ink, ids of its own, no fixed size, no links, a name for screen readers."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="patch_1">.*?</g>', "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'(<g id="patch_2">\s*<path [^>]*?fill: )#ffffff', r"\1none", svg, count=1)
    svg = (
        re.sub(r' (?:width|height|xmlns(?::xlink)?|version)="[^"]*"', "", svg.split(">", 1)[0])
        + ">"
        + svg.split(">", 1)[1]
    )
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = svg.replace("fill: #ffffff", "fill: none").replace(INK, "var(--ink)").replace(GRID, "var(--grid)")
    for place, color in enumerate(SERIES):
        svg = svg.replace(color, f"var(--series-{place})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1)
