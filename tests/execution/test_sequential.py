"""Steps one after the other with the library alone, here and on a machine that has little else."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from bare import ABSENT, bare_python
from helpers import Mini, mini_study, only, write_mini_data

from tlm import sequential
from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.execution.bundle import STEPS, export_bundle
from tlm.execution.execute import Outcome
from tlm.execution.process import StageFailed
from tlm.machine.runtime import Runtime
from tlm.planning.plan import Plan, plan
from tlm.sequential import Clock, main, prepare, run_bundle, run_plan
from tlm.stages import STAGES

TRAINING = ("pretrain", "finetune")


@pytest.fixture
def exported(own: Mini, tmp_path: Path) -> Path:
    """A bundle of all training of the miniature study."""
    for step in own.plan.steps:
        if step.stage in (*TRAINING, "overlap", "committee"):
            shutil.rmtree(own.folder(step))
    return export_bundle(own.plan, own.store, tmp_path / "bundle").folder


@pytest.fixture
def there(own: Mini, exported: Path) -> Runtime:
    """The runtime that runs the bundle where it lies."""
    return own.runtime.model_copy(update={"home": str(exported), "data_root": "/nonexistent"})


class FakeTime:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        monkeypatch.setattr(sequential, "time", SimpleNamespace(monotonic=lambda: self.now))


# --- run_plan ---


def test_steps_that_are_made_are_found_in_the_order_of_the_plan(mini: Mini) -> None:
    outcomes = run_plan(mini.plan, mini.runtime)
    assert [outcome.record.key for outcome in outcomes] == [step.key for step in mini.plan.steps]
    assert {outcome.status for outcome in outcomes} == {"cached"}


def test_only_the_steps_of_the_given_stages_run_and_tell_their_progress(own: Mini) -> None:
    for step in own.plan.steps:
        if step.stage in ("task", "pretrain"):
            shutil.rmtree(own.folder(step))
    began: list[Step] = []
    seen: list[tuple[int, int]] = []

    def progress(step: Step) -> sequential.Progress:
        began.append(step)
        return lambda done, total: seen.append((done, total))

    outcomes = run_plan(own.plan, own.runtime, stages=("pretrain",), progress=progress)
    assert [outcome.record.ref for outcome in outcomes] == [s.ref for s in own.plan.steps if s.stage == "pretrain"]
    assert {outcome.status for outcome in outcomes} == {"executed"}
    assert [step.stage for step in began] == ["pretrain"] * len(outcomes) and seen[-1] == (6, 6)
    assert own.store.inspect(only(own.plan, "task").ref).status == "missing"


def test_a_missing_input_is_named(mini_plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=r"corpus/ws60-s0-\w+ is missing"):
        run_plan(mini_plan, Runtime(home=str(tmp_path / "empty")), stages=("pretrain",))


def test_prepare_makes_what_training_starts_from_and_nothing_else(mini_plan: Plan, mini_data: Path) -> None:
    runtime = Runtime(home=str(mini_data.parent / "home"), data_root=str(mini_data))
    made = {outcome.record.ref for outcome in prepare(mini_plan, runtime)}
    needed = {ref for step in mini_plan.steps if step.stage in TRAINING for ref in step.inputs.values()}
    assert {ref for ref in needed if ref.stage not in TRAINING} <= made
    assert {ref.stage for ref in made} == {"source", "tokenizer", "tokens", "corpus", "task", "inject"}
    assert prepare(mini_plan, runtime) == []


# --- bundles ---


def test_a_bundle_makes_the_very_artifacts_and_a_second_run_finds_them(
    mini: Mini, exported: Path, there: Runtime
) -> None:
    lines: list[str] = []
    assert run_bundle(exported, there, say=lines.append) == {}
    store = ArtifactStore(there.artifacts)
    steps = [s for s in mini.plan.steps if s.stage in (*TRAINING, "committee") or s.stage == "overlap"]
    assert sorted(line.split()[1] for line in lines) == sorted(str(step.ref) for step in steps)
    assert all(line.startswith("executed ") for line in lines)
    for step in steps:
        assert store.get(step.ref, verify=True).record.outputs == mini.first[step.key].record.outputs
    again: list[str] = []
    assert run_bundle(exported, there, say=again.append) == {}
    assert len(again) == len(lines) and all(line.startswith("cached ") for line in again)


def test_another_home_gets_what_the_steps_are_made_from_and_no_page_and_the_bundle_stays_as_it_was(
    mini: Mini, exported: Path, there: Runtime, tmp_path: Path
) -> None:
    needed = {str(record.ref) for record in ArtifactStore(there.artifacts).records()}
    page = mini.folder(mini.plan.report)  # somebody else laid it there
    shutil.copytree(page, exported / "data" / "artifacts" / "report" / page.name)
    before = sorted(exported.rglob("*"))
    elsewhere = there.model_copy(update={"home": str(tmp_path / "elsewhere")})
    left = run_bundle(exported, elsewhere, time_limit=0)
    assert left and set(left.values()) == {"no time was left", "it needs what is left above"}
    found = {str(record.ref) for record in ArtifactStore(elsewhere.artifacts).records()}
    assert found == needed
    assert sorted(exported.rglob("*")) == before


def test_a_damaged_bundle_is_refused_by_another_home(exported: Path, there: Runtime, tmp_path: Path) -> None:
    next((exported / "data/artifacts/corpus").glob("*/tokens.ids.npy")).write_bytes(b"")
    with pytest.raises(UserError, match=r"corpus/ws\w+-s0-\w+: tokens.ids.npy has 0 bytes.*Copy the bundle again"):
        run_bundle(exported, there.model_copy(update={"home": str(tmp_path / "elsewhere")}))


def test_a_stage_whose_package_is_not_there_is_left_and_said_so(
    exported: Path, there: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(STAGES["committee"], "requires", ("no_such_package",))
    left = run_bundle(exported, there)
    assert {name.split("/")[0]: reason for name, reason in left.items()} == {
        "committee": "Python here has no no_such_package"
    }


def test_a_machine_that_cannot_train_is_a_users_error_before_any_work(
    exported: Path, there: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(STAGES["finetune"], "requires", ("torch", "no_such_package"))
    before = list(ArtifactStore(there.artifacts).records())
    with pytest.raises(UserError, match=r"finetune cannot run here: Python has no no_such_package\."):
        run_bundle(exported, there)
    assert list(ArtifactStore(there.artifacts).records()) == before


# --- the time limit ---


def a_step(stage: str = "finetune", **labels: object) -> Step:
    return Step.model_validate({"stage": stage, "version": "1", "config": {}, "slug": "s", "labels": labels})


def test_time_for_a_step_is_judged_by_the_longest_of_its_like(monkeypatch: pytest.MonkeyPatch) -> None:
    time = FakeTime(monkeypatch)
    clock = Clock(100)
    assert clock.has_time_for(a_step(arch="deep"))
    clock.note(a_step(arch="deep", finetune_seed=0), 60)
    clock.note(a_step(arch="deep", finetune_seed=1), 50)
    clock.note(a_step(arch="shallow"), 5)
    time.now += 45
    assert not clock.has_time_for(a_step(arch="deep", finetune_seed=2))
    assert clock.has_time_for(a_step(arch="shallow", finetune_seed=2))
    assert not clock.has_time_for(a_step(arch="unseen")), "the longest of its stage counts"
    assert clock.has_time_for(a_step("pretrain"))
    time.now += 60
    assert not clock.has_time_for(a_step("pretrain"))
    assert Clock(None).has_time_for(a_step())


def test_a_training_that_the_limit_ends_is_left_and_every_step_is_given_what_time_remains(
    exported: Path, there: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = FakeTime(monkeypatch)
    given: list[float | None] = []

    def too_long(step: Step, runtime: Runtime) -> Outcome:
        given.append(runtime.stage_timeout)
        time.now += 61
        raise StageFailed("stopped after stage_timeout")

    monkeypatch.setattr(sequential, "execute", too_long)
    left = run_bundle(exported, there, time_limit=60)
    assert given == [60] and "no time was left" in left.values()


def test_a_training_that_fails_within_its_time_is_a_failure(
    exported: Path, there: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(step: Step, runtime: Runtime) -> Outcome:
        raise StageFailed("its process ended with code -9")

    monkeypatch.setattr(sequential, "execute", killed)
    with pytest.raises(StageFailed, match="code -9"):
        run_bundle(exported, there, time_limit=600)


# --- the command ---


def test_the_command_says_what_is_left_and_goes_on_when_run_again(
    exported: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TLM_HOME", "/nonexistent")
    assert main([str(exported), "--device", "cpu", "--in-process", "--time-limit", "0"]) == 0
    first = capsys.readouterr().out
    assert re.search(r"\n(\d+) steps are left: run the same command again to go on\.\n$", first)
    assert main([str(exported), "--device", "cpu", "--in-process"]) == 0
    assert capsys.readouterr().out.endswith("\n0 steps are left.\n")


def test_the_command_ends_with_one_line_on_what_is_no_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"{tmp_path}/\x1b[2J", "--home", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/\\x1b[2J is not a bundle: {STEPS}: ")


@pytest.mark.slow
def test_a_machine_without_the_orchestrator_and_its_like_trains_a_bundle(tmp_path: Path) -> None:
    data = write_mini_data(tmp_path / "raw")
    study = mini_study(corpus__sizes=[60], treatments=[], treatment_architectures=None)
    runtime = Runtime(home=str(tmp_path / "home"), data_root=str(data))
    planned = plan(study, str(data))
    prepare(planned, runtime)
    bundle = export_bundle(planned, ArtifactStore(runtime.artifacts), tmp_path / "bundle").folder
    for package in ABSENT:
        assert "ModuleNotFoundError" in bare_python(["-c", f"import {package}"], tmp_path / "bare").stderr
    done = bare_python(["-m", "tlm.sequential", str(bundle), "--device", "cpu"], tmp_path / "bare")
    assert done.returncode == 0, done.stdout + done.stderr
    told = (
        rf"executed  \S+ \(.* s\)|left      committee/\S+: Python here has no ({'|'.join(ABSENT)})|\d steps are left.*"
    )
    assert all(re.fullmatch(told, line) for line in done.stdout.splitlines()), done.stdout
    store = ArtifactStore(f"{bundle}/data/artifacts")
    training = [step for step in planned.steps if step.stage in TRAINING]
    assert len(training) == 4
    for step in training:
        record = store.get(step.ref, verify=True).record
        assert record.provenance["device"] == "cpu"
        assert f"executed  {step.ref} ({record.seconds:.1f} s)" in done.stdout


def test_a_bundle_whose_inputs_are_damaged_is_refused_before_anything_trains(exported: Path, there: Runtime) -> None:
    store = ArtifactStore(f"{exported}/data/artifacts")
    record = next(record for record in store.records() if record.stage == "corpus")
    path = store.local_path(record, "tokens.ids.npy")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{record.ref} is damaged \(tokens.ids.npy differs .*Copy the bundle again"):
        run_bundle(exported, there)
    shutil.rmtree(path.parent)
    with pytest.raises(UserError, match=rf"{record.ref} is missing .*Copy the bundle again"):
        run_bundle(exported, there)
