"""Measured optimiser steps are real ones, leave nothing behind, and add up to a projection."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import Mini, mini_study, only
from hypothesis import given
from hypothesis import strategies as st

from tlm.cost import calibration, measure
from tlm.cost.calibration import Calibration, Measured, calibrate, project, side_by_side
from tlm.cost.estimate import Estimate, Workload, estimate
from tlm.errors import UserError
from tlm.execution.process import StageFailed
from tlm.machine.runtime import Runtime
from tlm.planning.plan import Plan, plan
from tlm.study.architecture import Architecture
from tlm.training import loop


@pytest.fixture
def costs(mini_plan: Plan, mini_data: Path) -> Estimate:
    return estimate(mini_plan, {}, str(mini_data))


@pytest.fixture
def workloads(costs: Estimate) -> list[Workload]:
    return [cost.workload for cost in costs.costs.values()]


# --- measuring ---


@pytest.mark.slow
def test_every_workload_is_measured_once_and_nothing_is_left_on_disk(
    workloads: list[Workload], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("home", "temporary", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path / "here")
    said: list[tuple[int, int, str]] = []
    runtime = Runtime(home=str(tmp_path / "home"), device="cpu", threads=1)
    found = calibrate(workloads, runtime, processes=2, seconds=0.02, progress=lambda *given: said.append(given))
    assert set(found.measured) == set(workloads) and len(found.measured) == 4
    for measured in found.measured.values():
        assert 0 < measured.step < math.inf and 0 < measured.start_up < math.inf
    assert (found.processes, found.threads) == (2, 1) and found.device.startswith("CPU (")
    assert [done for done, _, _ in said] == [0, 0, 1, 2, 3] and said[-1][1:] == (4, "finetune conv")
    assert [list((tmp_path / name).rglob("*")) for name in ("home", "temporary", "here")] == [[], [], []]


def test_what_is_timed_is_the_engines_own_step(workloads: list[Workload], monkeypatch: pytest.MonkeyPatch) -> None:
    real = loop.gradients
    batches: list[int] = []

    def spy(model: object, inputs: loop.Inputs, *rest: object) -> torch.Tensor:
        batches.append(len(inputs["ids_R"]))  # type: ignore[arg-type]
        return real(model, inputs, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "gradients", spy)
    small = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    decoder = Architecture.model_validate({"name": "gpt", "kind": "decoder", **small})
    decoders = [workload.model_copy(update={"architecture": decoder}) for workload in workloads]
    for workload in dict.fromkeys([*workloads, *decoders]):
        batches.clear()
        timing = measure.measure(workload, "cpu", seconds=0.0)
        assert len(batches) == measure.WARM_UP + measure.TIMED
        assert timing["step"] > 0 and timing["set_up"] >= 0
        assert min(batches) >= 8 * 3, "a batch of 8 texts"


def test_a_slow_step_is_measured_by_a_part_of_its_batch_and_scaled_up(
    workloads: list[Workload], monkeypatch: pytest.MonkeyPatch
) -> None:
    for workload in {workload.pretrain is None: workload for workload in workloads}.values():
        assert measure.batch_to_measure(workload) == 8
        one = 3 * workload.forward_flops(workload.mean_length)
        monkeypatch.setattr(measure, "SLOW_STEP", 2.5 * one)
        assert measure.batch_to_measure(workload) == 2
        monkeypatch.setattr(measure, "SLOW_STEP", 0.5 * one)
        assert measure.batch_to_measure(workload) == 1
        monkeypatch.setattr(measure.Stopwatch, "timing", measure.Timing(step=0.5, set_up=2.0))
        assert measure.measure(workload, "cpu", seconds=0.0) == {"step": 4.0, "set_up": 2.0}
        monkeypatch.undo()


@given(mean=st.floats(1, 126), longest=st.integers(6, 126), count=st.integers(32, 500))
def test_made_up_lengths_have_the_mean_and_fit(mean: float, longest: int, count: int) -> None:
    lengths = measure.lengths_around(min(mean, longest), longest, count)
    assert len(lengths) == count and lengths.min() >= 1 and lengths.max() <= longest
    assert abs(lengths.mean() - min(mean, longest)) < 1


def test_made_up_lengths_differ_unless_every_text_fills_the_length() -> None:
    assert measure.lengths_around(40, 126, 1000).std() > 10
    assert set(measure.lengths_around(126, 126, 100)) == {126}


@pytest.mark.slow
def test_a_device_that_is_not_there_is_the_users_error(workloads: list[Workload]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(UserError, match=r"no CUDA device.*--device cpu.*--no-time"):
        calibrate(workloads, Runtime(device="cuda"), seconds=0.02)


@pytest.mark.slow
def test_too_little_memory_is_the_users_error(workloads: list[Workload]) -> None:
    with pytest.raises(UserError, match=r"memory_gib=0\.01 .*--no-time"):
        calibrate(workloads, Runtime(device="cpu", memory_gib=0.01), seconds=0.02)


def test_a_process_that_dies_is_an_error_that_says_how(
    workloads: list[Workload], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(StageFailed, match="calibration: its process ended with code 1"):
        calibrate(workloads, Runtime(device="cpu"))


def test_no_more_processes_than_workers_cores_and_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert side_by_side(Runtime(workers=4, threads=1), steps=100) == 4
    assert side_by_side(Runtime(workers=4, threads=4), steps=100) == 2
    assert side_by_side(Runtime(workers=4, threads=1), steps=3) == 3
    assert side_by_side(Runtime(workers=4, threads=16), steps=100) == 1


# --- projecting ---


def made_up(costs: Estimate, processes: int) -> Calibration:
    """Ten seconds to start, one for each optimiser step."""
    measured = {cost.workload: Measured(step=1.0, start_up=10.0) for cost in costs.costs.values()}
    return Calibration("a device", processes, 1, measured)


def test_a_training_step_takes_its_start_its_steps_and_its_evaluation(mini_plan: Plan, costs: Estimate) -> None:
    step = only(mini_plan, "pretrain", ws=60, arch="one")
    cost = costs.costs[step.key]
    found = project(mini_plan, {step.key}, costs.costs, made_up(costs, 1), [])
    assert found.total == pytest.approx(10 + 6 * (1 + cost.evaluation_flops / cost.training_flops))
    assert found.of.keys() == {step.key} and found.uncounted == ()


def test_processes_share_the_work_down_to_the_longest_chain(mini_plan: Plan, costs: Estimate) -> None:
    todo = {step.key for step in mini_plan.steps if step.stage in ("pretrain", "finetune")}
    alone, two, many = (project(mini_plan, todo, costs.costs, made_up(costs, n), []) for n in (1, 2, 1000))
    assert alone.total == pytest.approx(sum(alone.of.values())) and two.total == pytest.approx(alone.total / 2)
    chains = [
        alone.of[step.key] + alone.of[step.inputs["pretrained"].key]
        for step in mini_plan.steps
        if "pretrained" in step.inputs
    ]
    assert many.total == pytest.approx(max(chains))


def test_other_stages_take_what_they_took_before_or_are_named(mini: Mini, costs: Estimate) -> None:
    records = [outcome.record for outcome in mini.first.values()]
    tasks = [record.model_copy(update={"seconds": 7.0}) for record in records if record.stage == "tokens"]
    todo = {step.key for step in mini.plan.steps if step.stage in ("tokens", "corpus")}
    found = project(mini.plan, todo, costs.costs, None, tasks)
    assert found.of == {step.key: 7.0 for step in mini.plan.steps if step.stage == "tokens"}
    assert found.uncounted == ("corpus",)


def test_twice_the_steps_take_twice_the_time(mini_data: Path) -> None:
    planned = plan(mini_study(), str(mini_data))
    costs = estimate(planned, {}, str(mini_data))
    cost = costs.costs[only(planned, "pretrain", ws=60, arch="one").key]
    calibrated = made_up(costs, 1)
    twice = replace(
        cost,
        steps=2 * cost.steps,
        training_flops=2 * cost.training_flops,
        evaluation_flops=2 * cost.evaluation_flops,
    )
    assert calibrated.seconds(twice) - 10 == pytest.approx(2 * (calibrated.seconds(cost) - 10))
