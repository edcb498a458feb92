"""The report's plots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from tlm.artifacts import catalogue
from tlm.report.cells import corpus_label
from tlm.report.data import Gaps, corpora, rows
from tlm.report.drawing import INK, MARKERS, STYLE, Plot, color, finished, new_figure, saved
from tlm.study.base import slugify
from tlm.study.config import StudyConfig

if TYPE_CHECKING:
    from tlm.artifacts.catalogue import Connection


def accuracy_by_ws(gaps: Gaps, study: StudyConfig, task: str) -> Plot:
    """Accuracy of each architecture and soft committee against Ws; scratch and TF-IDF as horizontal lines."""
    name, title = f"accuracy-{slugify(task)}", f"Accuracy against Ws: {task}"
    sizes = [ws for ws in study.corpus.sizes if ws]
    with mpl.rc_context(STYLE):
        canvas, axes = new_figure(title, "Ws, paragraphs in the pre-training set", "Test accuracy, %")
        series: list[tuple[str, str, str | None]] = [("finetune", arch.name, None) for arch in study.architectures]
        series += [("committee", committee.name, "soft") for committee in study.committees]
        drawn = False
        for place, (kind, system, rule) in enumerate(series):
            look = {"kind": kind, "system": system, "rule": rule, "task": task, "treatment": None}
            label = f"{system} (soft)" if rule else system
            # Side by side, so that equal accuracies and their error bars do not hide each other.
            beside = 1.02 ** (place - (len(series) - 1) / 2)
            found = [row for ws in sizes if (row := gaps.find(ws=ws, **look))]
            drawn |= _line(axes, [{**row, "ws": row["ws"] * beside} for row in found], "ws", place, label)
            if scratch := gaps.find(ws=0, **look):
                axes.axhline(100 * scratch["accuracy"], color=color(place), linewidth=1, linestyle=(0, (4, 3)))
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
        return finished(canvas, axes, name, title)


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
        canvas, axes = new_figure(title, "Distinct task tokens missing from the pre-training set", "Test accuracy, %")
        for place, ((system, ws), points) in enumerate(lines.items()):
            _line(axes, points, "missing_from_corpus", place, f"{system}, Ws = {ws:,}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
        return finished(canvas, axes, name, title)


def committee_size(connection: Connection, study: StudyConfig, task: str) -> Plot:
    """Mean accuracy of the disjoint committees of n members, by the soft rule, one line for each Ws."""
    name, title = f"committee-{slugify(task)}", f"Accuracy against committee size: {task}"
    found = rows(
        connection,
        """select committee, task, ws, key, size, avg(accuracy) as accuracy,
            coalesce(stddev_samp(accuracy) / sqrt(count(*)), 0) as standard_error
        from committee_curve where rule = 'soft' group by all order by committee, ws, key, size""",
    )
    order = [committee.name for committee in study.committees]
    lines: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in found:
        if row["task"] == task and row["committee"] in order:
            lines.setdefault((row["committee"], row["ws"]), []).append(row)
    if not lines:
        return Plot(name, title, missing=f"The study has no committee on {task}.")
    with mpl.rc_context(STYLE):
        canvas, axes = new_figure(title, "Members (mean of disjoint committees)", "Test accuracy, %")
        for place, ((committee, ws), points) in enumerate(lines.items()):
            _line(axes, points, "size", place, f"{committee}, Ws = {corpus_label(ws, None)}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return finished(canvas, axes, name, title)


def pretraining_loss(connection: Connection, study: StudyConfig) -> Plot:
    """Held-out loss by step, one panel for each pre-training set, one line for each architecture and seed."""
    name, title = "pretraining-loss", "Pre-training: loss on held-out text"
    found = rows(
        connection,
        """select * from metrics where stage = 'pretrain' and name = 'heldout_loss'
        order by ws, treatment nulls first, arch, pretrain_seed, key, step""",
    )
    if not found:
        return Plot(name, title, missing="No pre-training curve was recorded.")
    panels = list(dict.fromkeys((row["ws"], row["treatment"]) for row in found))
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
                if (row["ws"], row["treatment"]) == panel:
                    curves.setdefault((row["arch"], row["key"]), []).append(row)
            for (arch, _), points in curves.items():
                place = names.index(arch) if arch in names else len(names)
                x, y = [row["step"] for row in points], [row["value"] for row in points]
                marker = MARKERS[place % len(MARKERS)] if len(points) < 12 else ""
                axes.plot(x, y, color=color(place), marker=marker, linewidth=1.5, markersize=4, label=arch)
        for axes in flat[len(panels) :]:
            axes.set_visible(False)
        for line in grid:
            line[0].set_ylabel("Held-out loss, nats")
        handles = {
            label: handle for axes in flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(6, len(handles)))
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        return saved(figure, name, title)


def all_plots(connection: Connection, gaps: Gaps, study: StudyConfig) -> dict[str, list[Plot]]:
    """Section → its plots, the ones without data among them."""
    tasks = [task.name for task in study.tasks]
    injected = [task for task in tasks if any(treatment for _, treatment in corpora(study, task))]
    return {
        "results": [accuracy_by_ws(gaps, study, task) for task in tasks],
        "missing": [accuracy_by_missing_tokens(connection, task) for task in injected or tasks[:1]],
        "committee": [committee_size(connection, study, task) for task in tasks],
        "pretraining": [pretraining_loss(connection, study)],
    }


# --- inside ---


def _line(axes: Axes, points: list[dict[str, Any]], x: str, place: int, label: str) -> bool:
    """Draw `points` with error bars of two standard errors, where they have one; False if there is none to draw."""
    there = sorted(points, key=lambda point: point[x])
    if not there:
        return False
    xs, ys = [point[x] for point in there], [100 * point["accuracy"] for point in there]
    marker = MARKERS[place % len(MARKERS)]
    if "standard_error" in there[0]:
        bars = [200 * point["standard_error"] for point in there]
        axes.errorbar(
            xs, ys, yerr=bars, color=color(place), marker=marker, linewidth=1.6, capsize=3, elinewidth=1, label=label
        )
    else:
        axes.plot(xs, ys, color=color(place), marker=marker, linewidth=1.6, label=label)
    return True
