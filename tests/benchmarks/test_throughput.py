"""The benchmark runs, with every contender, on a tiny model. No time is asserted."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import numbered_vocabulary
from rich.console import Console

from benchmarks import machine, memory, work
from benchmarks.cases import CASES, Case, shape_of
from benchmarks.comparison import Options, compare, prepare_workloads
from benchmarks.contenders import NAMES, OURS, STOCK, TRAINER, build, names_for
from benchmarks.results import Row, disturbance, summarise
from benchmarks.setting import Setting
from benchmarks.speed import Timing
from benchmarks.work import useful_flops
from benchmarks.workload import Workload, load
from tlm.cost import miniature
from tlm.data.ragged import Ragged
from tlm.errors import UserError
from tlm.execution.process import child_environment
from tlm.machine.allocator import ALLOCATORS
from tlm.machine.runtime import Runtime
from tlm.modeling.cost import classifier_flops

VOCABULARY = numbered_vocabulary(40).tokens
PLAIN = shape_of("bert6", num_hidden_layers=2, num_attention_heads=2, head_size=8)
CONV = shape_of("bert1b", num_attention_heads=2, head_size=8, conv_channels=2)
TINY = [
    Case("tiny-pretrain", "pretrain", PLAIN, "tiny", batch_size=4, max_length=12),
    Case("tiny-conv", "pretrain", CONV, "tiny", batch_size=4, max_length=12),
    Case("tiny-finetune", "finetune", PLAIN, "tiny", batch_size=4, max_length=12),
    Case("tiny-evaluate", "evaluate", PLAIN, "tiny", batch_size=4, max_length=12),
]
needs_accelerate = pytest.mark.skipif(find_spec("accelerate") is None, reason="the Trainer needs accelerate")


@pytest.fixture(autouse=True)
def quick_and_threads_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(work, "BLOCK_SECONDS", 0.0)
    monkeypatch.setattr(miniature, "ENOUGH", 0)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    generator = np.random.default_rng(0)
    items = [generator.integers(5, len(VOCABULARY), length) for length in generator.integers(3, 20, 30)]
    made = Workload(tmp_path / "tiny", Ragged.from_lists(items), np.arange(30) % 3, 3, VOCABULARY)
    made.save()
    return made


def run(cases: list[Case], workload: Workload, out: Path) -> list[Row]:
    options = Options(out, rounds=2, seconds=0.001, threads=1, device="cpu", memory=False)
    return compare(cases, {"tiny": workload.folder}, options, Console(quiet=True))


@pytest.mark.slow
def test_every_case_has_a_row_for_each_contender_with_finite_figures(workload: Workload, tmp_path: Path) -> None:
    rows = run(TINY, workload, tmp_path)
    assert [(row.case, row.contender) for row in rows] == [
        (case.name, name) for case in TINY for name in names_for(case)
    ]
    for row in rows:
        figures = (row.tokens_per_second, row.ratio, row.ratio_min, row.ratio_max, row.useful_gflops, row.ceiling)
        assert all(math.isfinite(figure) and figure > 0 for figure in figures), row
        assert row.contender != STOCK or row.ratio == row.ratio_min == row.ratio_max == 1


@pytest.mark.slow
def test_results_are_saved_with_the_machine_they_are_of(workload: Workload, tmp_path: Path) -> None:
    rows = run(TINY[:1], workload, tmp_path)
    with open(tmp_path / "throughput.csv", encoding="utf-8", newline="") as file:
        saved = list(csv.DictReader(file))
    assert [line["contender"] for line in saved] == [row.contender for row in rows]
    assert {"commit", "processor", "flags", "torch", "threads"} <= set(saved[0])
    with open(tmp_path / "rounds.csv", encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 2 * len(rows)
    assert "| tiny-pretrain | stock | float32 |" in (tmp_path / "throughput.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [STOCK, OURS, pytest.param(TRAINER, marks=needs_accelerate)])
def test_training_changes_the_weights_and_evaluation_does_not(name: str, workload: Workload) -> None:
    for case, changes in ((TINY[0], True), (TINY[2], True), (TINY[3], False)):
        contender = build(name, Setting(case, workload, "cpu", bfloat16=False))
        before = [parameter.clone() for parameter in contender.model.parameters()]  # type: ignore[attr-defined]
        contender.prepare(workload.batches(0, 2, case.batch_size), 1)()
        after = contender.model.parameters()  # type: ignore[attr-defined]
        assert changes is not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_trainer_has_no_convolutional_model() -> None:
    assert TRAINER not in names_for(TINY[1])


@pytest.mark.slow
def test_peak_memory_is_that_of_a_process_of_its_own(workload: Workload) -> None:
    held = np.ones(1 << 28)  # 2 GiB that the child must not count
    for name in names_for(TINY[0]):
        peak = memory.measure(name, Setting(TINY[0], workload, "cpu", bfloat16=False), threads=1)
        assert 1 << 26 < peak < held.nbytes


def test_a_workload_survives_being_saved(workload: Workload) -> None:
    again = load(workload.folder)
    assert (again.vocabulary, again.num_labels) == (workload.vocabulary, workload.num_labels)
    assert np.array_equal(again.tokens.ids, workload.tokens.ids) and np.array_equal(again.labels, workload.labels)


def test_batches_are_full_and_their_real_tokens_counted(workload: Workload) -> None:
    batches = workload.batches(start=6, count=3, batch_size=4)
    assert [rows.tolist() for rows in batches] == [[24, 25, 26, 27], [28, 29, 0, 1], [2, 3, 4, 5]]
    lengths = [min(len(workload.tokens[row]), 10) + 2 for rows in batches for row in rows]
    assert workload.real_tokens(batches, 12) == sum(lengths)


def test_useful_work_is_that_of_real_tokens_three_times_over_for_training(workload: Workload) -> None:
    batches = workload.batches(0, 2, 4)
    lengths = [min(len(workload.tokens[row]), 10) + 2 for row in np.concatenate(batches)]
    once = sum(classifier_flops(PLAIN, length, 3) for length in lengths)
    assert useful_flops(TINY[3], workload, batches) == once
    assert useful_flops(TINY[2], workload, batches) == 3 * once


def test_ratios_are_medians_of_the_ratios_within_a_round() -> None:
    speeds = {STOCK: (10, 20, 10), OURS: (30, 40, 50)}
    timings = [
        Timing("case", name, "float32", number, 1, tokens, 1.0, 1e9, 0.0)
        for name, each in speeds.items()
        for number, tokens in enumerate(each)
    ]
    ours = summarise(timings, {STOCK: 100, OURS: 50}, {"float32": 2.0})[1]
    assert (ours.ratio, ours.ratio_min, ours.ratio_max, ours.peak_ratio) == (3, 2, 5, 0.5)


def test_a_share_of_more_than_the_ceiling_is_not_shown_as_a_figure() -> None:
    timing = Timing("case", STOCK, "float32", 0, 1, 10, 1.0, 1e9, 0.0)
    assert summarise([timing], {}, {"float32": 2.0})[0].cells[-1] == "50 %"
    assert summarise([timing], {}, {"float32": 0.5})[0].cells[-1] == "?"


def test_a_machine_that_others_use_is_reported() -> None:
    quiet = Timing("case", STOCK, "float32", 0, 1, 10, 1.0, 1e9, others=0.0)
    assert "NOT" not in disturbance([quiet])
    assert "NOT a quiet machine" in disturbance([quiet, replace(quiet, others=1.0)])


def test_a_case_survives_json() -> None:
    import json

    for case in (*CASES.values(), *TINY):
        assert Case.from_dict(json.loads(json.dumps(case.as_dict()))) == case


def test_the_process_has_the_allocators_of_a_training_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*ALLOCATORS, "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    workers = child_environment(Runtime(threads=3))
    assert {n: v for n, v in machine.environment(3).items() if workers.get(n) != v} == {}
    assert {n for n in workers if n not in machine.environment(3)} <= {"PYTHONPATH", "PYTHONSAFEPATH"}


def test_without_a_data_root_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TLM_DATA_ROOT", raising=False)
    with pytest.raises(UserError, match="TLM_DATA_ROOT"):
        prepare_workloads([CASES["pretrain-bert6-768"]], None, tmp_path, Console(quiet=True))


def test_every_case_alternates_from_the_same_stock() -> None:
    assert NAMES[0] == STOCK
    assert all(names_for(replace(case))[0] == STOCK for case in CASES.values())


@pytest.mark.parametrize("name", [STOCK, pytest.param(TRAINER, marks=needs_accelerate)])
def test_a_stock_contender_keeps_its_optimizer_between_turns(name: str, workload: Workload) -> None:
    contender: Any = build(name, Setting(TINY[0], workload, "cpu", bfloat16=False))
    for turn in (1, 2):
        contender.prepare(workload.batches(0, 2, 4), 1)()
        (steps,) = {int(state["step"]) for state in contender.optimizer.state.values()}
        assert steps == 2 * turn


@needs_accelerate
def test_the_trainer_learns_in_every_turn_though_its_schedule_ends_at_zero(workload: Workload) -> None:
    contender: Any = build(TRAINER, Setting(TINY[0], workload, "cpu", bfloat16=False))
    for _ in range(2):
        before = [parameter.clone() for parameter in contender.model.parameters()]
        contender.prepare(workload.batches(0, 2, 4), 1)()
        assert not all(torch.equal(a, b) for a, b in zip(before, contender.model.parameters(), strict=True))
