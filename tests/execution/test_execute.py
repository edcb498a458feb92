"""Every stage, step by step, without an orchestrator: made once, found again, mended when damaged."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Mini, mini_study, only, python_environment, write_mini_data

from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.execution import process
from tlm.execution.child import run_isolated
from tlm.execution.execute import Outcome, execute
from tlm.execution.process import StageFailed
from tlm.planning.plan import plan
from tlm.stages.job import Job
from tlm.training.optimisation import NonFiniteLoss, Point


def digests(outcome: Outcome) -> dict[str, str]:
    return {name: output.sha256 for name, output in outcome.record.outputs.items()}


# --- caching and mending ---


def test_the_first_pass_executes_every_step_and_the_second_none(mini: Mini) -> None:
    assert {outcome.status for outcome in mini.first.values()} == {"executed"}
    again = mini.run()
    assert {outcome.status for outcome in again.values()} == {"cached"}
    assert all(again[key].record == outcome.record for key, outcome in mini.first.items())


def test_records_hold_config_inputs_and_provenance_and_no_path(mini: Mini) -> None:
    for step in mini.plan.steps:
        record = mini.first[step.key].record
        assert (record.key, record.config, record.inputs, record.labels) == (
            step.key,
            step.config,
            step.inputs,
            step.labels,
        )
        assert {"git_commit", "python", "packages", "device", "threads"} <= set(record.provenance)
        text = (mini.folder(step) / "record.json").read_text()
        assert mini.runtime.home not in text and mini.runtime.data_root not in text


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


DAMAGES: dict[str, tuple[str, dict[str, Any], Callable[[Path], object], str]] = {
    "weights": ("pretrain", {"ws": 60, "arch": "one"}, lambda f: flip_a_byte(f / "model.safetensors"), "differs"),
    "parquet": ("overlap", {"ws": 60}, lambda f: flip_a_byte(f / "overlap.parquet"), "differs"),
    "vocabulary": ("tokenizer", {}, lambda f: (f / "vocab.txt").unlink(), "vocab.txt is missing"),
    "record": ("task", {}, lambda f: (f / "record.json").unlink(), "record.json is missing"),
    "folder": ("corpus", {"ws": 120}, lambda f: shutil.rmtree(f), ""),
    "predictions": (
        "finetune",
        {"ws": 0, "arch": "conv"},
        lambda f: os.truncate(f / "predictions.parquet", 9),
        "bytes",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_only_the_damaged_artifact_is_made_again_and_it_is_the_same(own: Mini, damage: str) -> None:
    stage, labels, do, reason = DAMAGES[damage]
    step = only(own.plan, stage, **labels, **({"treatment": None} if stage in ("overlap", "pretrain") else {}))
    do(own.folder(step))
    second = own.run()
    assert [key for key, outcome in second.items() if outcome.status == "executed"] == [step.key]
    assert reason in second[step.key].damage
    assert digests(second[step.key]) == digests(own.first[step.key])


def test_a_study_in_another_place_makes_the_same_artifacts(mini: Mini, tmp_path: Path) -> None:
    other = Mini(tmp_path)
    assert [step.key for step in other.plan.steps] == [step.key for step in mini.plan.steps]
    for step in mini.plan.steps[:-1]:  # the report shows when and how long
        if step.stage == "latency":  # a measurement of the machine
            continue
        assert digests(other.first[step.key]) == digests(mini.first[step.key]), str(step.ref)


def test_a_missing_input_is_an_error_and_leaves_nothing(own: Mini) -> None:
    corpus = only(own.plan, "corpus", ws=60)
    shutil.rmtree(own.folder(corpus))
    step = only(own.plan, "overlap", ws=60, treatment=None)
    shutil.rmtree(own.folder(step))
    with pytest.raises(LookupError, match="corpus/ws60-s0-.* is missing"):
        execute(step, own.runtime)
    assert own.store.inspect(step.ref).status == "missing"


def test_before_work_is_called_with_the_reason_and_only_if_there_is_work(own: Mini) -> None:
    reasons: list[str] = []

    def before_work(reason: str) -> dict[str, str]:
        reasons.append(reason)
        return {"run_id": "r1", "experiment_id": "e1"}

    step = only(own.plan, "task")
    assert execute(step, own.runtime, before_work=before_work).record.mlflow is None
    assert reasons == []
    (own.folder(step) / "items.parquet").unlink()
    outcome = execute(step, own.runtime, before_work=before_work)
    assert reasons == ["items.parquet is missing"] == [outcome.damage]
    assert outcome.record.mlflow == {"run_id": "r1", "experiment_id": "e1"}


def test_a_source_that_changed_after_planning_is_an_error(own: Mini, tmp_path: Path) -> None:
    raw = write_mini_data(tmp_path / "raw")
    runtime = own.runtime.model_copy(update={"data_root": str(raw), "home": str(tmp_path / "fresh")})
    step = plan(mini_study(), str(raw)).steps[0]
    with open(raw / "corpus.csv", "a") as file:
        file.write("One more.\n")
    with pytest.raises(UserError, match="changed between planning and reading"):
        execute(step, runtime)
    assert list(ArtifactStore(runtime.artifacts).records()) == []


def test_a_task_over_a_source_without_labels_is_a_users_error(own: Mini) -> None:
    """A local one is refused before any work; of one on the Hub it is known only here."""
    task, corpus_text = only(own.plan, "task"), own.plan.steps[0]
    step = Step.model_validate({**task.model_dump(), "inputs": {"source": corpus_text.ref}, "slug": "t"})
    with pytest.raises(UserError, match="task topics: its source has no labels"):
        execute(step, own.runtime)
    assert own.store.inspect(step.ref).status == "missing"


# --- what the stages made ---


def test_corpora_are_nested_and_share_their_heldout_part(mini: Mini) -> None:
    def rows(ws: int, role: str = "rows") -> list[int]:
        path = mini.store.get(only(mini.plan, "corpus", ws=ws).ref).path(f"{role}.npy")
        return np.load(path, allow_pickle=False).tolist()

    assert rows(60) == rows(120)[:60] and len(rows(120)) == 120
    assert rows(60, "heldout_rows") == rows(120, "heldout_rows") and len(rows(60, "heldout_rows")) == 20


def test_injection_removes_the_listed_tokens_and_the_overlap_after_it_is_recomputed(mini: Mini) -> None:
    inject = only(mini.plan, "inject")
    removed = mini.frame(inject, "removed.parquet")
    assert len(removed) == 3 and (removed["corpus_count"] > 0).all() and (removed["task_count"] > 0).all()
    facts = [
        mini.first[only(mini.plan, "overlap", ws=120, treatment=label).key].record.facts
        for label in (None, "random-unk-3")
    ]
    assert facts[1]["common_types"] == facts[0]["common_types"] - 3
    counts = mini.frame(only(mini.plan, "overlap", ws=120, treatment="random-unk-3"), "token_counts.parquet")
    assert (counts.set_index("token").loc[removed["token"], "corpus_count"] == 0).all()


def test_predictions_are_of_every_dev_and_test_item_of_the_task(mini: Mini) -> None:
    items = mini.frame(only(mini.plan, "task"), "items.parquet")
    wanted = {part: set(items.loc[items["part"] == part, "item_id"]) for part in ("dev", "test")}
    for step in mini.plan.steps:
        if step.stage in ("finetune", "baseline"):
            found = mini.frame(step, "predictions.parquet")
            assert {part: set(found.loc[found["part"] == part, "item_id"]) for part in ("dev", "test")} == wanted
            assert len(found) == 28
            test = found[found["part"] == "test"]
            share = float((np.stack(test["logits"].to_list()).argmax(axis=1) == test["label"]).mean())
            assert mini.first[step.key].record.facts["test_accuracy"] == pytest.approx(share)


def test_the_first_point_of_a_committees_curve_is_its_first_member(mini: Mini) -> None:
    committee = only(mini.plan, "committee", ws=60)
    curve = mini.frame(committee, "curve.parquet").set_index(["size", "rule", "instance"])["accuracy"]
    first = mini.first[committee.inputs["member_000"].key].record.facts["test_accuracy"]
    assert all(curve[1, rule, 0] == pytest.approx(first) for rule in ("soft", "logit", "vote"))
    facts = mini.first[committee.key].record.facts
    assert facts["members"] == 2 and facts["accuracy"]["soft"] == curve[2, "soft", 0]


def test_the_report_stands_at_the_end(mini: Mini) -> None:
    report = mini.store.get(mini.plan.report.ref)
    assert "A miniature" in report.path("report.html").read_text(encoding="utf-8")
    assert "A miniature" in report.path("report.md").read_text(encoding="utf-8")


def test_divergence_leaves_no_artifact(own: Mini) -> None:
    step = only(own.plan, "pretrain", ws=60, arch="one")
    bad = step.model_copy(
        update={"config": {**step.config, "pretrain": {**step.config["pretrain"], "learning_rate": 1e30, "steps": 30}}}
    )
    bad = Step.model_validate(bad.model_dump())
    with pytest.raises(NonFiniteLoss, match="loss is"):
        execute(bad, own.runtime)
    assert own.store.inspect(bad.ref).status == "missing"
    assert own.store.abandoned() == []


# --- in this process ---


def test_two_trainings_at_once_in_one_process_are_refused_and_the_first_comes_out_right(own: Mini) -> None:
    """They would share torch's random numbers, and publish other bits under the same keys."""
    first, second = (only(own.plan, "pretrain", ws=ws, arch="one", treatment=None) for ws in (60, 120))
    for step in (first, second):
        shutil.rmtree(own.folder(step))
    refused: list[str] = []

    def meanwhile(done: int, total: int) -> None:
        with pytest.raises(UserError) as raised:
            execute(second, own.runtime)
        refused.append(raised.value.problem)

    with ThreadPoolExecutor(1) as pool:
        outcome = execute(first, own.runtime, progress=lambda *at: pool.submit(meanwhile, *at).result())
    assert refused and set(refused) == {f"{second.ref}: this process is training already."}
    assert digests(outcome) == digests(own.first[first.key])
    assert own.store.inspect(second.ref).status == "missing"
    assert digests(execute(second, own.runtime)) == digests(own.first[second.key])


@pytest.mark.parametrize("threads", [1, 3])
def test_training_here_has_the_threads_it_was_given_and_leaves_others_as_they_were(own: Mini, threads: int) -> None:
    step = only(own.plan, "finetune", ws=60, arch="one")
    shutil.rmtree(own.folder(step))
    before, within = torch.get_num_threads(), []
    runtime = own.runtime.model_copy(update={"threads": threads})
    outcome = execute(step, runtime, progress=lambda *at: within.append(torch.get_num_threads()))
    assert set(within) == {threads} and torch.get_num_threads() == before
    assert outcome.record.provenance["threads"] == threads


# --- in a process of its own ---


@pytest.mark.slow
def test_an_isolated_worker_makes_the_same_artifact_and_reports_progress_and_its_curve(own: Mini) -> None:
    step = only(own.plan, "pretrain", ws=60, arch="conv")
    shutil.rmtree(own.folder(step))
    seen: list[tuple[int, int]] = []
    isolated = own.runtime.model_copy(update={"isolate": True})
    points: list[Point] = []
    outcome = execute(step, isolated, progress=lambda *at: seen.append(at), points=points.extend)
    assert outcome.status == "executed"
    assert digests(outcome) == digests(own.first[step.key])
    assert outcome.record.facts == own.first[step.key].record.facts
    assert seen[-1] == (6, 6)
    curve = own.frame(step, "metrics.parquet")
    shown = set(zip(curve["step"], curve["name"], curve["value"], strict=True))
    assert {(1, "train_loss"), (6, "heldout_loss")} <= {point[:2] for point in points} and set(points) <= shown


def test_a_killed_worker_is_a_failed_stage_and_no_artifact(own: Mini, monkeypatch: pytest.MonkeyPatch) -> None:
    class Doomed(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            os.kill(self.pid, signal.SIGKILL)

    step = only(own.plan, "pretrain", ws=60, arch="one")
    shutil.rmtree(own.folder(step))
    monkeypatch.setattr(process.subprocess, "Popen", Doomed)
    with pytest.raises(StageFailed, match=r"pretrain/one-ws60.*ended with code -9 \(out of memory"):
        execute(step, own.runtime.model_copy(update={"isolate": True}))
    assert own.store.inspect(step.ref).status == "missing"
    assert own.store.abandoned() == []


@pytest.mark.slow
def test_a_stage_past_its_timeout_is_stopped_and_said_so(own: Mini) -> None:
    step = only(own.plan, "pretrain", ws=60, arch="one")
    shutil.rmtree(own.folder(step))
    runtime = own.runtime.model_copy(update={"isolate": True, "stage_timeout": 0.05})
    with pytest.raises(StageFailed, match=r"pretrain/one-ws60.*stopped after stage_timeout=0.05 seconds"):
        execute(step, runtime)
    assert own.store.inspect(step.ref).status == "missing"


def job_of(mini: Mini, step: Step, out: Path) -> Job:
    out.mkdir()
    inputs = {name: mini.store.get(ref) for name, ref in step.inputs.items()}
    return Job(step, inputs, out, mini.runtime, lambda done, total: None)


@pytest.mark.slow
def test_a_users_error_crosses_the_process_boundary(mini: Mini, tmp_path: Path) -> None:
    source = mini.plan.steps[0]
    other = source.model_copy(update={"config": {**source.config, "sha256": {}}})
    with pytest.raises(UserError) as raised:
        run_isolated(job_of(mini, other, tmp_path / "out"))
    assert raised.value.problem == "source files changed between planning and reading it."
    assert raised.value.remedy == "Run the study again."


@pytest.mark.slow
def test_any_other_error_in_a_worker_is_a_failed_stage_with_its_traceback(mini: Mini, tmp_path: Path) -> None:
    task = only(mini.plan, "task")
    broken = task.model_copy(update={"access": {}})
    with pytest.raises(StageFailed, match=r"TypeError: Task.*'task'(?s:.*)Traceback"):
        run_isolated(job_of(mini, broken, tmp_path / "out"))


def test_a_child_dies_with_its_parent() -> None:
    """Its standard input ends when the parent does, even by kill -9."""
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import time; from tlm.execution.process import Parent; Parent().say(ready=True); time.sleep(600)",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=python_environment(),
    )
    assert child.stdin is not None and child.stdout is not None
    child.stdout.readline()
    child.stdin.close()
    assert child.wait(timeout=60) == 1
