"""Writes report.html (self-contained), its twin report.md, and plots/*.png."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from tlm.report.comparison import HOW_TO_READ, HOW_VERDICTS_FALL
from tlm.report.evidence import Evidence
from tlm.report.findings import Findings
from tlm.report.formatting import NOT_AVAILABLE, escape_markdown, markdown_table
from tlm.report.glance import Glance, at_a_glance
from tlm.report.marts import rows
from tlm.report.matrix import LEGEND, answer_in
from tlm.report.plots import all_plots
from tlm.report.saved import PLOTS_FOLDER, plot_file
from tlm.report.sections import Section, sections
from tlm.study.config import StudyConfig
from tlm.study.dry_run import DRY_RUN, is_dry_run

if TYPE_CHECKING:
    from tlm.artifacts.marts import Connection


SORTING = "sorting.js"
"""The only script of the page, which its policy names by its digest."""


def render(
    evidence: Evidence, findings: Findings, out: Path, *, provenance: dict[str, Any], mlflow_url: str
) -> dict[str, Any]:
    """Write the report of a study into the folder `out`; the same records give the same bytes.

    Args:
        evidence: the study's records.
        findings: the answer to the question that the study's analysis asks; empty if it asks none.
        out: the folder; it is made if it is not there.
        provenance: of the code that writes the report (`tlm.artifacts.provenance.provenance`).
        mlflow_url: where the links lead; without MLflow run ids in the records there are none.

    Returns:
        How much there was to report: results, verdicts, plots, whether runs were tracked, seconds of compute.
    """
    study = evidence.study
    plots = all_plots(evidence)
    header = _header(evidence.connection, study, provenance)
    glance = at_a_glance(evidence, findings, plots["results"])
    every = [plot for group in (*plots.values(), findings.plots) for plot in group]
    drawn = [plot for plot in every if plot.draw]
    script = (Path(__file__).parent / SORTING).read_text(encoding="utf-8")
    values = {
        "title": study.title or study.name,
        "study": study,
        "header": header,
        "how_to_read": HOW_TO_READ,
        "dry_run": DRY_RUN if is_dry_run(study) else "",
        "glance": glance,
        "sections": [*_behind(findings, glance), *_shown(sections(evidence, plots), glance)],
        "mlflow_url": mlflow_url,
        "has_links": header["tracked"],
        "script": script,
        "script_digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / PLOTS_FOLDER).mkdir(exist_ok=True)
    for plot in drawn:
        (out / plot_file(plot)).write_bytes(plot.png)
    environment = _templates(mlflow_url)
    for name in ("report.html", "report.md"):
        (out / name).write_text(environment.get_template(f"{name}.j2").render(values), encoding="utf-8")
    return {
        "results": header["results"],
        "verdicts": len(findings.verdicts),
        "decided": sum(verdict.decided for verdict in findings.verdicts),
        "plots": len(drawn),
        "tracked": header["tracked"],
        "compute_seconds": header["seconds"],
    }


def _templates(mlflow_url: str) -> Environment:
    environment = Environment(
        loader=PackageLoader("tlm.report", ""),
        autoescape=select_autoescape(enabled_extensions=("html.j2",), default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["markdown_table"] = lambda table: markdown_table(table, mlflow_url)
    environment.globals["plot_file"] = plot_file
    environment.globals |= {"answer_in": answer_in, "legend": LEGEND}
    environment.filters["md"] = lambda text: escape_markdown(str(text))
    return environment


def _header(connection: Connection, study: StudyConfig, provenance: dict[str, Any]) -> dict[str, Any]:
    stages = rows(
        connection,
        """select stage, count(*) as artifacts, sum(seconds) as seconds, count_if(without_weights) as without
        from runs group by 1 order by min(created), 1""",
    )
    commits = rows(
        connection,
        "select git_commit, bool_or(git_dirty) as dirty from runs where git_commit is not null group by 1 order by 1",
    )
    counts = rows(
        connection, "select count(*) as runs, count(mlflow_run_id) as tracked, max(created) as latest from runs"
    )[0]
    devices = rows(
        connection,
        """select distinct coalesce(device, 'cpu') as device from runs
        where role in ('pretrains', 'predicts') and arch is not null order by 1""",
    )
    packages = {name: version for name, version in provenance.get("packages", {}).items() if version}
    seconds = round(sum(stage["seconds"] for stage in stages), 1)
    return {
        "stages": stages,
        "seconds": seconds,
        "time": _duration(seconds),
        "results": rows(connection, "select count(*) as n from results")[0]["n"],
        "commits": [f"{c['git_commit'][:12]}{' (with uncommitted changes)' if c['dirty'] else ''}" for c in commits],
        "report_commit": (provenance.get("git_commit") or NOT_AVAILABLE)[:12],
        "python": provenance.get("python", NOT_AVAILABLE),
        "system": provenance.get("system", NOT_AVAILABLE),
        "packages": ", ".join(f"{name} {version}" for name, version in sorted(packages.items())),
        "latest": counts["latest"].isoformat(sep=" ", timespec="minutes") if counts["latest"] else NOT_AVAILABLE,
        "tracked": counts["tracked"] > 0,
        "partly_tracked": 0 < counts["tracked"] < counts["runs"],
        "setup": [*_setup(study), ("Trained on", ", ".join(row["device"] for row in devices) or NOT_AVAILABLE)],
    }


def _setup(study: StudyConfig) -> list[tuple[str, str]]:
    length, epochs = study.pretrain, study.finetune.epochs
    return [
        *([("Scale", study.scale)] if study.scale else []),
        ("Pre-training sets", f"Ws {', '.join(f'{ws:,}' for ws in study.corpus.sizes)} of {study.corpus.source.kind}"),
        ("Tasks", ", ".join(task.name for task in study.tasks)),
        ("Architectures", ", ".join(arch.name for arch in study.architectures)),
        (
            "Pre-training",
            _cut(f"{length.steps:,} steps" if length.steps else f"{length.epochs} epochs", length.max_steps),
        ),
        ("Fine-tuning", _cut(f"{epochs} epoch{'s' if epochs > 1 else ''}", study.finetune.max_steps)),
        ("Seeds", _seeds(study)),
    ]


def _cut(length: str, max_steps: int | None) -> str:
    return (
        f"{length}, of which {max_steps:,} step{'s' if max_steps > 1 else ''} at most were made"
        if max_steps
        else length
    )


def _seeds(study: StudyConfig) -> str:
    by = "×" if study.seeds == "crossed" else "each with one of"
    scratch = f"; {len(study.scratch_seeds)} from scratch" if study.scratch_seeds else ""
    return f"{len(study.pretrain_seeds)} pre-training {by} {len(study.finetune_seeds)} fine-tuning{scratch}"


def _behind(findings: Findings, glance: Glance) -> list[Section]:
    """What the verdicts rest on; none if the study asks nothing. What could not be measured or drawn of it is said."""
    if not findings.verdicts:
        return []
    text = " ".join([HOW_VERDICTS_FALL, *findings.notes])
    plots = [plot for plot in findings.plots if plot is not glance.figure]
    return [Section("answer", "Behind the verdicts", text, findings.tables, plots)]


def _shown(told: list[Section], glance: Glance) -> list[Section]:
    """The sections that have something to show, without what stands above them."""
    there = [section.without_gaps() for section in told]
    return [
        replace(section, plots=[plot for plot in section.plots if plot is not glance.figure])
        for section in there
        if section.tables or section.plots
    ]


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
