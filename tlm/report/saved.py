"""The files of a report that others read: what a study found and its summary, computed once and shown in many places.

`findings.json` holds verdicts, tables, plots (by file), notes and how the study was made; `summary.parquet` a row for each
task, pre-training set and architecture (`tlm.report.summary.summary`). The terminal, Prefect, MLflow and docs/results.md
show what stands in them, and nobody computes it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd
from pydantic import ConfigDict, TypeAdapter

from tlm.report.findings import Findings, Verdict
from tlm.report.formatting import Table
from tlm.report.marts import rows

if TYPE_CHECKING:
    from tlm.report.drawing import Plot
    from tlm.report.evidence import Evidence

FINDINGS_FILE = "findings.json"
SUMMARY_FILE = "summary.parquet"
MARTS_FOLDER = "marts"
"""Of the packed marts (`tlm.report.packed`), which the findings can be found in again."""
PLOTS_FOLDER = "plots"


@dataclass(frozen=True)
class SavedPlot:
    """Where a plot is, or what was missing to draw it."""

    name: str
    title: str
    file: str
    """PNG, relative to the report's folder; empty if there was nothing to draw."""
    missing: str = ""


@dataclass(frozen=True)
class Making:
    """How the artifacts behind the findings were made."""

    artifacts: int
    seconds: float
    """Of all of them, as if one had been made after the other."""
    devices: list[str]
    """That trained, and whether they kept the weights."""
    commits: list[str]
    """Of the code that trained; n/a where it was not from a git checkout."""


@dataclass(frozen=True)
class SavedFindings:
    """The content of findings.json."""

    __pydantic_config__ = ConfigDict(ser_json_inf_nan="strings")  # an interval may have no end
    format: Literal[1]
    study: str
    scale: str | None
    analysis: str | None
    verdicts: list[Verdict]
    notes: list[str]
    tables: list[Table]
    plots: list[SavedPlot]
    making: Making


_FORM = TypeAdapter(SavedFindings)


def plot_file(plot: Plot) -> str:
    """Where a report keeps a plot, relative to its folder."""
    return f"{PLOTS_FOLDER}/{plot.name}.png"


def save_findings(findings: Findings, evidence: Evidence, out: Path) -> None:
    """Write findings.json into the folder `out`; the plots it names are written by `tlm.report.render`."""
    (out / FINDINGS_FILE).write_bytes(_FORM.dump_json(to_save(findings, evidence), indent=1) + b"\n")


def to_save(findings: Findings, evidence: Evidence) -> SavedFindings:
    """What a study found, as findings.json holds it."""
    study = evidence.study
    plots = [SavedPlot(p.name, p.title, plot_file(p) if p.draw else "", p.missing) for p in findings.plots]
    return SavedFindings(
        format=1,
        study=study.name,
        scale=study.scale,
        analysis=study.analysis,
        verdicts=findings.verdicts,
        notes=findings.notes,
        tables=findings.tables,
        plots=plots,
        making=_making(evidence),
    )


def load_findings(path: Path) -> SavedFindings:
    """Read a findings.json.

    Raises:
        pydantic.ValidationError: if it is of a format that this code does not know.
    """
    return _FORM.validate_json(path.read_bytes())


def save_summary(frame: pd.DataFrame, out: Path) -> None:
    """Write summary.parquet into the folder `out`."""
    frame.to_parquet(out / SUMMARY_FILE, index=False)


def load_summary(path: Path) -> pd.DataFrame:
    """Read a summary.parquet."""
    return pd.read_parquet(path)


def _making(evidence: Evidence) -> Making:
    (total,) = rows(evidence.connection, "select count(*) as artifacts, coalesce(sum(seconds), 0) as seconds from runs")
    trained = rows(
        evidence.connection,
        """select
            coalesce(device, 'cpu') || case when without_weights then ' (without weights)' else '' end as device,
            coalesce(left(git_commit, 12), 'n/a') as commit
        from runs where role in ('pretrains', 'predicts') and arch is not null group by all order by all""",
    )
    return Making(
        artifacts=total["artifacts"],
        seconds=round(total["seconds"], 1),
        devices=sorted({row["device"] for row in trained}),
        commits=sorted({row["commit"] for row in trained}),
    )
