"""The report of a study that has run: its marts are built once, its question is answered once, and all of it is written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlm.report.evidence import Evidence
from tlm.report.packed import packed, save_packed
from tlm.report.render import render
from tlm.report.saved import MARTS_FOLDER, save_findings, save_summary
from tlm.report.summary import summary
from tlm.results import find

if TYPE_CHECKING:
    from tlm.artifacts.marts import Connection
    from tlm.study.config import StudyConfig


def write_study_report(
    connection: Connection, study: StudyConfig, out: Path, *, provenance: dict[str, Any], mlflow_url: str
) -> dict[str, Any]:
    """Write report.html, report.md, plots/, findings.json, summary.parquet and marts/ into the folder `out`.

    Args:
        connection: the marts over this study's records alone (`tlm.artifacts.marts.build_memory`).
        study: what ran.
        out: the folder; it is made if it is not there.
        provenance: of the code that writes the report (`tlm.artifacts.provenance.provenance`).
        mlflow_url: where the report's links lead.

    Returns:
        How much there was to report: results, verdicts, plots, whether runs were tracked, seconds of compute.
    """
    evidence = Evidence(connection, study)
    findings = find(evidence)
    out.mkdir(parents=True, exist_ok=True)
    save_findings(findings, evidence, out)
    save_summary(summary(evidence), out)
    save_packed(packed(connection), out / MARTS_FOLDER)
    return render(evidence, findings, out, provenance=provenance, mlflow_url=mlflow_url)
