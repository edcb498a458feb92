"""A study is answered once, when its report is made; whoever shows it reads the report's files."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from report.synthetic import MLFLOW, PROVENANCE, publish, study

from tlm.artifacts.marts import build_memory
from tlm.artifacts.store import ArtifactStore
from tlm.machine.runtime import PACKAGE_PARENT
from tlm.report.saved import FINDINGS_FILE, SUMMARY_FILE, SavedFindings, load_findings, load_summary
from tlm.results.study_report import write_study_report
from tlm.stages import STAGES


def written(folder: Path, analysis: str | None) -> Path:
    store = ArtifactStore(str(folder / "artifacts"))
    config = study(folder / "raw", analysis=analysis)
    records = publish(config, store, folder / "raw")
    with build_memory(store, records, STAGES) as connection:
        write_study_report(connection, config, folder / "out", provenance=PROVENANCE, mlflow_url=MLFLOW)
    return folder / "out"


def callers(function: str) -> set[str]:
    """The modules of the project that call a function of this name."""
    found = set()
    for top in ("tlm", "tasks", "flows"):
        for path in (PACKAGE_PARENT / top).rglob("*.py"):
            calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
            names = {call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "") for call in calls}
            if function in names:
                found.add(path.relative_to(PACKAGE_PARENT).parts[:2])
    return {"/".join(parts) for parts in found}


def test_only_the_report_stage_builds_marts_of_a_study_and_answers_it() -> None:
    assert callers("build_memory") == {"tlm/stages"}
    assert callers("write_study_report") == {"tlm/stages"}
    assert callers("summary") == callers("save_findings") == {"tlm/results"}


def test_what_is_read_is_what_the_pages_show(tmp_path: Path, really_drawn: None) -> None:
    out = written(tmp_path, "ws-sweep")
    saved = load_findings(out / FINDINGS_FILE)
    assert (saved.format, saved.study, saved.analysis) == (1, "made-up", "ws-sweep")
    assert saved.verdicts and saved.tables and saved.notes
    assert saved.making.artifacts == 61 and saved.making.devices == ["cpu"] and saved.making.commits == ["c0ffeec0ffee"]
    page = (out / "report.md").read_text(encoding="utf-8")
    for verdict in saved.verdicts:
        assert verdict.outcome in page and verdict.figure.split(",")[0] in page
        assert all(link.run_id.startswith("run") for link in verdict.links)
    assert all(table.title in page for table in saved.tables)
    for plot in saved.plots:
        assert (out / plot.file).read_bytes().startswith(b"\x89PNG") and f"]({plot.file})" in page


def test_a_study_that_asks_nothing_has_no_verdicts_and_a_summary(tmp_path: Path) -> None:
    out = written(tmp_path, None)
    saved = load_findings(out / FINDINGS_FILE)
    assert saved.verdicts == saved.tables == saved.plots == []
    frame = load_summary(out / SUMMARY_FILE)
    assert len(frame) == 10 and frame["gap"].notna().all()
    assert "Claim or question" not in (out / "report.md").read_text(encoding="utf-8")


def test_findings_of_a_format_that_is_not_known_are_refused(tmp_path: Path) -> None:
    out = written(tmp_path, None)
    text = (out / FINDINGS_FILE).read_text(encoding="utf-8")
    (out / FINDINGS_FILE).write_text(text.replace('"format": 1', '"format": 2'), encoding="utf-8")
    with pytest.raises(ValueError, match="format"):
        load_findings(out / FINDINGS_FILE)


def test_every_field_of_the_file_is_in_it(tmp_path: Path) -> None:
    text = (written(tmp_path, None) / FINDINGS_FILE).read_text(encoding="utf-8")
    assert all(f'"{name}"' in text for name in SavedFindings.__dataclass_fields__)
