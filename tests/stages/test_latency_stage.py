"""What is timed, how often and in which units. No test asserts a time of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import mini_study, only, write_mini_data

from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.data.ragged import Rows
from tlm.evaluation.latency import WARM_UP, Latency, measure_latency
from tlm.execution.execute import execute
from tlm.machine.runtime import Runtime
from tlm.modeling.cost import classifier_flops, sequential_depth
from tlm.planning.plan import plan
from tlm.stages import STAGES
from tlm.stages.job import Job
from tlm.study.architecture import variant


class Answers:
    """Says what it was asked, and lets a clock of its own go on by a second for each item."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.now = 0.0

    def __call__(self, places: Rows) -> None:
        self.asked.append(places.tolist())
        self.now += len(places)

    def clock(self) -> float:
        return self.now


def test_every_call_is_timed_but_the_first_ones() -> None:
    answers = Answers()
    found = measure_latency(answers, items=5, batch_size=2, repeats=4, clock=answers.clock)
    assert found.milliseconds == (2_000.0,) * 4
    assert len(answers.asked) == WARM_UP + 4
    assert answers.asked[:4] == [[0, 1], [2, 3], [4, 0], [1, 2]]


def test_a_batch_larger_than_the_task_takes_items_again() -> None:
    answers = Answers()
    measure_latency(answers, items=3, batch_size=4, repeats=1, clock=answers.clock)
    assert answers.asked[0] == [0, 1, 2, 0]


def test_percentiles_are_those_of_the_timed_calls() -> None:
    found = Latency(tuple(float(n) for n in range(101)))
    assert (found.p50, found.p95) == (50.0, 95.0)


@pytest.mark.parametrize(("items", "batch_size", "repeats"), [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_nothing_to_time_is_an_error(items: int, batch_size: int, repeats: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        measure_latency(Answers(), items, batch_size, repeats)


def test_depth_counts_what_has_to_wait() -> None:
    assert sequential_depth(variant("bert6")) == 6 * 6 + 2
    assert sequential_depth(variant("bert1a")) == 6 + 2
    assert sequential_depth(variant("bert1d")) == 6 + 3 + 1 + 2
    assert sequential_depth(variant("gpt6")) == 6 * 6 + 1


# --- the stage, on a model that was really trained ---


@dataclass(frozen=True)
class Trained:
    step: Step
    store: ArtifactStore
    runtime: Runtime

    def job(self, out: Path, **config: object) -> Job:
        """A job of the stage `latency` on the model."""
        inputs = {"model": self.step.ref, **{name: self.step.inputs[name] for name in ("task", "tokens", "tokenizer")}}
        step = Step(stage="latency", version="1", config=config, inputs=inputs, slug="latency", labels=self.step.labels)
        artifacts = {name: self.store.get(ref) for name, ref in inputs.items()}
        return Job(step, artifacts, out, self.runtime, lambda done, total: None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A classifier of the miniature study, from scratch, and what it was made of."""
    folder = tmp_path_factory.mktemp("latency")
    raw = write_mini_data(folder / "raw")
    runtime = Runtime(home=str(folder / "home"), data_root=str(raw), isolate=False)
    planned = plan(mini_study(), runtime.data_root)
    model = only(planned, "finetune", ws=0, arch="conv")
    needed = {model.key}
    for step in reversed(planned.steps):
        if step.key in needed:
            needed |= set(step.input_keys.values())
    for step in planned.steps:
        if step.key in needed:
            execute(step, runtime)
    return Trained(model, ArtifactStore(runtime.artifacts), runtime)


def test_the_stage_times_a_fine_tuned_model_on_its_test_items(trained: Trained, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        job = trained.job(tmp_path, batch_sizes=[1, 64], repeats=3)
        facts = STAGES["latency"].of(job.step).run(job)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    calls = pd.read_parquet(tmp_path / "latency.parquet")
    assert calls.groupby("batch_size").size().to_dict() == {1: 3, 64: 3}
    assert facts["p50_ms_64"] == np.median(calls.loc[calls["batch_size"] == 64, "milliseconds"])
    assert 0 < float(str(facts["p50_ms_1"])) <= float(str(facts["p95_ms_1"]))
    assert facts["parameters"] == trained.store.get(trained.step.ref).record.facts["parameters"]
    shape = mini_study().architecture_of["conv"]
    assert facts["flops"] == classifier_flops(shape, int(str(facts["mean_length"])), 2)
    assert (facts["threads"], facts["device"], facts["precision"]) == (1, "cpu", "float32")
    assert not any("/" in str(value) for value in facts.values()), "a machine is described, never a path"
