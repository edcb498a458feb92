"""The report's plots; error bars are 95 % intervals.

Their names begin with the study's and a dot, those of findings with the study's and a dash: none is another's file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from tlm.artifacts.sql_models import ready_query
from tlm.report.comparison import point
from tlm.report.drawing import BELOW, MARKERS, Plot, Point, color, lines
from tlm.report.evidence import Evidence
from tlm.report.formatting import corpus_label
from tlm.report.marts import estimate, rows
from tlm.report.study_systems import corpora
from tlm.statistics import mean_accuracy
from tlm.study.config import StudyConfig

if TYPE_CHECKING:
    from tlm.artifacts.marts import Connection

ACCURACY = "Test accuracy, %"


def accuracy_by_ws(evidence: Evidence, task: str) -> Plot:
    """Accuracy of each architecture and soft committee against Ws; scratch and TF-IDF as horizontal lines."""
    study, gaps = evidence.study, evidence.gaps
    systems = [(arch.name, {"kind": "finetune", "system": arch.name}) for arch in study.architectures]
    systems += [
        (f"{committee.name} (soft)", {"kind": "committee", "system": committee.name, "rule": "soft"})
        for committee in study.committees
    ]
    series, scratch = [], {}
    for label, wanted in systems:
        found = {ws: gaps.find(task=task, treatment=None, ws=ws, **wanted) for ws in study.corpus.sizes}
        series.append((label, [at for ws, row in found.items() if ws and (at := _point(ws, row))]))
        if at_zero := _point(0, found.get(0)):
            scratch[label] = at_zero.y
    tfidf = _point(0, gaps.find(kind="baseline", system="tfidf", task=task))
    return lines(
        f"{study.name}.accuracy-{task}",
        f"Accuracy against Ws: {task}",
        "Ws, paragraphs in the pre-training set",
        ACCURACY,
        series,
        levels=[("TF-IDF", tfidf.y)] if tfidf else [],
        own_levels=scratch,
        log=True,
        missing=f"No model that starts from a pre-trained one was measured on {task}.",
    )


def accuracy_by_missing_tokens(evidence: Evidence, task: str) -> Plot:
    """Accuracy against the number of the task's tokens that the pre-training set lacks, at fixed Ws."""
    points: dict[str, list[Point]] = {}
    for row in rows(evidence.connection, ready_query("accuracy_by_missing_tokens")):
        if row["task"] == task and row["missing_from_corpus"] is not None:
            wanted = {name: row[name] for name in ("task", "system", "ws", "treatment")}
            at = _point(row["missing_from_corpus"], evidence.gaps.find(kind="finetune", **wanted))
            points.setdefault(f"{row['system']}, Ws = {row['ws']:,}", []).extend([at] if at else [])
    return lines(
        f"{evidence.study.name}.missing-tokens-{task}",
        f"Accuracy against missing tokens: {task}",
        "Distinct task tokens missing from the pre-training set",
        ACCURACY,
        [*points.items()],
        missing=f"No injection of missing tokens was measured on {task}.",
    )


def committee_size(evidence: Evidence, task: str) -> Plot:
    """Mean accuracy of the disjoint soft committees of n members, one line for each Ws."""
    series = []
    for committee in evidence.study.committees:
        for ws in evidence.study.corpus.sizes:
            sizes = evidence.committee_sizes(task, committee.name, ws)
            measured = {size: evidence.committee(task, committee.name, ws, size) for size in sizes}
            points = [point(size, mean_accuracy(correct)) for size, correct in measured.items() if correct is not None]
            series.append((f"{committee.name}, Ws = {corpus_label(ws, None)}", points))
    return lines(
        f"{evidence.study.name}.committee-{task}",
        f"Accuracy against committee size: {task}",
        "Members (mean of disjoint committees)",
        ACCURACY,
        series,
        missing=f"The study has no committee on {task}.",
    )


def pretraining_loss(connection: Connection, study: StudyConfig) -> Plot:
    """Held-out loss by step, one panel for each pre-training set, one line for each architecture and seed."""
    name, title = f"{study.name}.pretraining-loss", "Pre-training: loss on held-out text"
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

    def draw() -> Figure:
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
        figure.legend(handles.values(), handles.keys(), loc=BELOW, ncols=min(6, len(handles)))
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        return figure

    return Plot(name, title, draw)


def all_plots(evidence: Evidence) -> dict[str, list[Plot]]:
    """Section → its plots, the ones without data among them."""
    study = evidence.study
    tasks = [task.name for task in study.tasks]
    treated = [task for task in tasks if any(treatment for _, treatment in corpora(study, task))]
    return {
        "results": [accuracy_by_ws(evidence, task) for task in tasks],
        "missing": [accuracy_by_missing_tokens(evidence, task) for task in treated or tasks[:1]],
        "committee": [committee_size(evidence, task) for task in tasks],
        "pretraining": [pretraining_loss(evidence.connection, study)],
    }


def _point(x: float, row: dict[str, Any] | None) -> Point | None:
    """The accuracy of a row of the mart `gaps`, if it was measured."""
    accuracy = estimate(row, "accuracy")
    return None if accuracy is None else point(x, accuracy)
