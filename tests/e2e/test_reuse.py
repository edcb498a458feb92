"""What a second run does: nothing, or just what is missing, damaged or changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from project import Project, digests, flip_a_byte

pytestmark = pytest.mark.slow


def test_a_first_run_prints_the_table_the_report_and_what_to_try_next(project: Project) -> None:
    output = project.run()
    report = project.path(project.record("report"), "report.html")
    for expected in ("Test accuracy", "Scratch", "TF-IDF", "Overl.", str(report), "tlm sql", "tlm explain", "make ui"):
        assert expected in output
    assert report.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_second_run_executes_no_stage_and_starts_no_prefect(project: Project) -> None:
    def prefect() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (project.folder / "home" / "data" / "prefect").rglob("*")}

    before, files = project.records(), prefect()
    assert "0 stages executed" in project.run()
    assert project.records() == before and prefect() == files != {}


def test_running_from_another_folder_executes_no_stage(project: Project, tmp_path: object) -> None:
    assert "0 stages executed" in project.run(cwd=project.folder / "data")


def test_damaged_and_deleted_artifacts_are_named_and_just_they_are_made_again(project: Project) -> None:
    before = project.records()
    weights = project.record("pretrain", "one-ws60")
    counts = project.record("overlap", "topics-ws120")
    deleted = project.record("finetune", "topics-conv-scratch")
    flip_a_byte(project.path(weights, "model.safetensors"))
    flip_a_byte(project.path(counts, "token_counts.parquet"))
    shutil.rmtree(project.path(deleted, "predictions.parquet").parent)
    output = project.run()
    assert "3 stages executed" in output
    for record, file in ((weights, "model.safetensors"), (counts, "token_counts.parquet")):
        assert f"damaged {record.ref}: {file} differs from the digest in its record" in output
    after = project.records()
    again = {name for name in before if after[name].created != before[name].created or after[name] != before[name]}
    assert again == {str(weights.ref), str(counts.ref), str(deleted.ref)}
    assert all(digests(after[name]) == digests(before[name]) for name in again)


def test_a_changed_field_runs_the_stages_below_it_and_no_other(project: Project) -> None:
    before = set(project.records())
    explained = project.tlm(
        "explain", str(project.folder / "mini.yaml"), "--against", "mini", "--set", "finetune.epochs=1"
    )
    assert "finetune.epochs" in explained
    project.run("--set", "finetune.epochs=1")
    made = {name.split("/")[0] for name in set(project.records()) - before}
    assert made == {"finetune", "committee", "latency", "report"}


def test_prefect_results_without_artifacts_are_not_believed(project: Project) -> None:
    """Prefect still holds a result for every step; the store holds nothing for one of them."""
    output = project.tlm("invalidate", "baseline/topics-majority", "--no-downstream", "--yes")
    assert output.count("removed") == 1
    assert "1 stages executed" in project.run()


def test_moving_the_whole_project_invalidates_nothing(project: Project) -> None:
    moved = project.folder.with_name("moved elsewhere")
    project.folder.rename(moved)
    project.folder = moved
    output = project.run(cwd=moved / "home")
    assert "0 stages executed" in output
    assert "runs" in project.tlm("sql", "select count(*) as runs from runs", cwd=moved)
