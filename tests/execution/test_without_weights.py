"""Models whose weights were left behind: their results are used like any other's, and nobody mistakes them for damage."""

from __future__ import annotations

import inspect
import io
import shutil
from functools import partial
from pathlib import Path

import pytest
from helpers import Mini, edit_record, only
from rich.console import Console

from flows.planning import show_plan
from tlm.artifacts import catalogue
from tlm.artifacts.record import RECORD, from_file, leaving, to_file
from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.execution.bundle import export_bundle
from tlm.execution.execute import execute
from tlm.execution.importing import import_records, survey
from tlm.inference.resolve import find_classifiers
from tlm.planning.preflight import check
from tlm.stages import STAGES

WEIGHTS = "model.safetensors"


def leave_behind(folder: Path) -> None:
    """What an archive of an artifact without weights holds."""
    record = leaving(from_file((folder / RECORD).read_bytes()), [WEIGHTS])
    (folder / RECORD).write_bytes(to_file(record))
    (folder / WEIGHTS).unlink()


def trained(mini: Mini) -> list[Step]:
    return [step for step in mini.plan.steps if STAGES[step.stage].weights]


@pytest.fixture
def bare(own: Mini) -> Mini:
    """The study as it comes home when all weights are left behind."""
    for step in trained(own):
        leave_behind(own.folder(step))
    return own


def test_results_come_home_without_weights_and_make_the_same_tables_and_a_report_that_says_so(
    bare: Mini, mini: Mini, store: ArtifactStore, tmp_path: Path
) -> None:
    assert import_records(Path(bare.runtime.home), store).refused == {}
    assert all(store.inspect(step.ref).status == "complete" for step in bare.plan.steps)
    rows = []
    place = tmp_path / "catalogue.duckdb"
    for each in (mini.store, store):
        assert catalogue.build(each, place, STAGES) == {}
        rows.append(catalogue.query(place, "select * from results order by all").to_pylist())
    assert rows[0] == rows[1]
    sums = catalogue.query(place, "select stage, count_if(without_weights) as n from runs group by 1 having n > 0")
    count = len([step for step in trained(bare) if step.stage == "finetune"])
    assert {row["stage"]: row["n"] for row in sums.to_pylist()} == {
        "finetune": count,
        "pretrain": len(trained(bare)) - count,
    }
    shutil.rmtree(bare.folder(bare.plan.report))
    execute(bare.plan.report, bare.runtime)
    report = bare.store.get(bare.plan.report.ref).path("report.md").read_text()
    assert f"{count} finetune ({count} without weights)" in report and "Trained on | cpu" in report


def test_weights_deleted_by_accident_are_damage_and_come_home_as_none(own: Mini, store: ArtifactStore) -> None:
    step = only(own.plan, "pretrain", ws=60, arch="conv")
    (own.folder(step) / WEIGHTS).unlink()
    assert own.store.inspect(step.ref).status == "damaged"
    assert import_records(Path(own.runtime.home), store).refused[str(step.ref)] == f"{WEIGHTS} is missing"


def test_whichever_stage_loads_a_model_says_so() -> None:
    loads = ("folder(CONFIG_AND_WEIGHTS)", "FinetunedModel.load(", "job.language_model(")
    loading = {name for name, stage in STAGES.items() if any(call in inspect.getsource(stage) for call in loads)}
    assert loading >= {"finetune", "latency", "option_scores", "teacher"}
    assert loading == {name for name, stage in STAGES.items() if stage.reads_weights}


def test_only_weights_may_be_left_behind(own: Mini, store: ArtifactStore) -> None:
    step = only(own.plan, "finetune", ws=60, arch="conv")
    record = leaving(from_file((own.folder(step) / RECORD).read_bytes()), ["predictions.parquet"])
    (own.folder(step) / RECORD).write_bytes(to_file(record))
    reason = import_records(Path(own.runtime.home), store).refused[str(step.ref)]
    assert reason == "it was left without predictions.parquet, which are no weights"
    edit_record(own.folder(step), left_behind={"config.json": None})
    assert "an output, and left behind" in own.store.inspect(step.ref).reason


def test_what_would_start_from_weights_is_refused_before_any_work_and_a_plan_says_so(
    bare: Mini, tmp_path: Path
) -> None:
    finetune = only(bare.plan, "finetune", ws=60, arch="conv")
    pretrain = only(bare.plan, "pretrain", ws=60, arch="conv")
    console = Console(file=io.StringIO(), width=300)
    show_plan(bare.plan, bare.store, bare.runtime, console, steps=True, time=False)
    assert f"{len(bare.plan.steps)} cached ({len(trained(bare))} of them without weights), 0 to run." in said(console)
    assert "cannot run" not in said(console) and "cached, without weights" in said(console)
    check(bare.plan.study, bare.runtime)  # nothing is left to run that needs them

    bare.store.delete(finetune.ref)
    refused = (
        rf"^{finetune.ref} cannot run: {pretrain.ref} is here without weights: {WEIGHTS} stayed .* \(cpu\)\. Bring "
    )
    for what in (
        lambda: check(bare.plan.study, bare.runtime),
        lambda: export_bundle(bare.plan, bare.store, tmp_path / "bundle"),
    ):
        with pytest.raises(UserError, match=refused):
            what()
    with pytest.raises(UserError, match=rf"^{pretrain.ref} is here without weights"):
        execute(finetune, bare.runtime)
    show_plan(bare.plan, bare.store, bare.runtime, console, time=False)
    assert f"{finetune.ref} cannot run" in said(console)
    assert bare.store.inspect(pretrain.ref).status == "complete" and bare.store.abandoned() == []


def test_whoever_predicts_with_such_a_model_is_told_and_with_weights_that_were_not_kept_too(bare: Mini) -> None:
    step = only(bare.plan, "finetune", ws=60, arch="conv")
    with pytest.raises(UserError, match=rf"^{step.ref} is here without weights: .* stayed on"):
        find_classifiers(bare.store, [str(step.ref)])
    with pytest.raises(UserError, match="stayed on"):
        bare.store.get(step.ref).folder(["config.json", WEIGHTS])
    edit_record(bare.folder(step), left_behind={WEIGHTS: None})
    with pytest.raises(UserError, match=rf"was not kept .* `tlm invalidate {step.ref} --yes`"):
        find_classifiers(bare.store, [str(step.ref)])


def test_weights_that_come_later_complete_what_is_here_and_others_are_refused(
    bare: Mini, mini: Mini, store: ArtifactStore
) -> None:
    import_records(Path(bare.runtime.home), store)
    assert import_records(Path(bare.runtime.home), store).imported == ()
    other = only(bare.plan, "pretrain", ws=60, arch="conv")
    edit_record(Path(store.root) / str(other.ref), left_behind={WEIGHTS: {"sha256": "0" * 64, "bytes": 9}})
    trial = partial(catalogue.unfit, store, stages=STAGES)
    assert [*survey(Path(mini.runtime.home), store, trial=trial).refused] == [str(other.ref)]
    done = import_records(Path(mini.runtime.home), store)
    assert done.refused == {
        str(other.ref): f"{WEIGHTS} is another than that of the artifact that is here without weights"
    }
    assert {ref.key for ref in done.imported} == {step.key for step in trained(bare)} - {other.key}
    assert not any(store.get(ref, verify=True).record.left_behind for ref in done.imported)
    assert import_records(Path(bare.runtime.home), store).imported == ()  # and are not lost again


def said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
