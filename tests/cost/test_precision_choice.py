"""Precision "auto": what is faster where it is measured, measured once, and what a home began with wherever it goes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers import mini_study, write_mini_data
from hypothesis import given
from hypothesis import strategies as st

from tlm.artifacts.store import ArtifactStore
from tlm.cost import miniature, precision
from tlm.cost.precision import Choice, choose, faster, settled
from tlm.cost.shape import LAYERS, Shape
from tlm.machine.precision import Resolved
from tlm.machine.runtime import Runtime
from tlm.planning.plan import plan
from tlm.study.config import StudyConfig

HALF, FULL = {"float32": 2.0, "bfloat16": 1.0}, {"float32": 1.0, "bfloat16": 2.0}
"""Seconds on a processor on which bfloat16 is twice as fast, and on one on which it is half as fast."""


@pytest.fixture
def study() -> StudyConfig:
    return mini_study(pretrain__precision="auto", finetune__precision="auto")


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(home=str(tmp_path / "home"), data_root=str(write_mini_data(tmp_path / "raw")), device="cpu")


@pytest.fixture
def measures(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, float]], list[Shape]]:
    """A function that says what a measurement finds from now on; it returns the list of what was measured."""
    monkeypatch.setattr(precision, "native_precision", lambda device: "bfloat16")

    def finds(seconds: dict[str, float]) -> list[Shape]:
        measured: list[Shape] = []
        monkeypatch.setattr(precision, "measure", lambda shape, runtime: measured.append(shape) or seconds)
        return measured

    return finds


def train(study: StudyConfig, found: Resolved, runtime: Runtime, stage: str) -> None:
    """A stand-in for what one training of this stage leaves in a home."""
    step = next(step for step in plan(study, runtime.data_root, precision=found).steps if step.stage == stage)
    draft = Path(runtime.home) / "draft"
    draft.mkdir(parents=True)
    ArtifactStore(runtime.artifacts).publish(step, draft, facts={}, provenance={}, seconds=1)


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_what_is_faster_by_more_than_chance_is_chosen_and_float32_in_doubt(full: float, half: float) -> None:
    chosen = faster({"float32": full, "bfloat16": half})
    assert chosen == ("bfloat16" if full / half > precision.IN_DOUBT else "float32") or full == pytest.approx(
        1.03 * half
    )
    assert {"float32": full, "bfloat16": half}[chosen] <= precision.IN_DOUBT * min(full, half)


def test_what_was_measured_is_kept_for_this_processor_torch_threads_and_shape(
    study: StudyConfig, runtime: Runtime, measures: Callable[..., list[Shape]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(measures(FULL)) == 0
    first = choose(study, runtime)
    assert first.precision == "float32"
    again = measures(HALF)
    assert choose(study, runtime) == first
    renamed = study.model_copy(update={"name": "other", "pretrain_seeds": (5,)})
    assert choose(renamed, runtime) == first
    assert again == []
    assert choose(study, runtime.model_copy(update={"threads": 2})).precision == "bfloat16"
    wider = mini_study(pretrain__precision="auto", tokenizer__vocab_size=400)
    assert choose(wider, runtime).precision == "bfloat16"
    monkeypatch.setattr(precision, "processor_name", lambda: "another")
    assert choose(study, runtime).precision == "bfloat16"
    assert len(again) == 3


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
@pytest.mark.parametrize(("began", "seconds"), [("bfloat16", FULL), ("float32", HALF)])
def test_a_home_goes_on_with_what_its_models_were_trained_in(
    began: Resolved,
    seconds: dict[str, float],
    stage: str,
    study: StudyConfig,
    runtime: Runtime,
    measures: Callable[..., list[Shape]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured = measures(seconds)
    train(study, began, runtime, stage)
    assert choose(study, runtime).precision == began
    assert choose(study, runtime.model_copy(update={"device": "cuda"})).precision == began
    monkeypatch.setattr(precision, "native_precision", lambda device: "float32")
    assert choose(study, runtime).precision == began
    assert measured == []


def test_nothing_is_measured_where_there_is_no_question(
    study: StudyConfig, runtime: Runtime, measures: Callable[..., list[Shape]], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = measures(FULL)
    assert settled(mini_study(), runtime) == mini_study()
    assert choose(study, runtime.model_copy(update={"device": "cuda"})).precision == "bfloat16"
    monkeypatch.setattr(precision, "native_precision", lambda device: "float32")
    assert choose(study, runtime).precision == "float32"
    assert measured == []
    assert not runtime.precisions.exists()


@pytest.mark.parametrize("left", ["", "[]", '{"seconds": {}}', "cut", "zero"])
def test_a_kept_file_that_is_damaged_is_measured_anew(
    left: str, study: StudyConfig, runtime: Runtime, measures: Callable[..., list[Shape]]
) -> None:
    measures(FULL)
    choose(study, runtime)
    (kept,) = runtime.precisions.glob("*.json")
    whole = kept.read_text()
    zero = json.dumps({**json.loads(whole), "seconds": {"float32": 0.0, "bfloat16": 1.0}})
    kept.write_text({"cut": whole[:-20], "zero": zero}.get(left, left))
    measures(HALF)
    assert choose(study, runtime).precision == "bfloat16"


def test_two_commands_at_once_measure_once_and_agree(
    study: StudyConfig, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = [HALF, FULL]
    monkeypatch.setattr(precision, "native_precision", lambda device: "bfloat16")
    monkeypatch.setattr(precision, "measure", lambda shape, runtime: (time.sleep(0.2), results.pop())[1])
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: choose(study, runtime), range(2))
    assert one == other
    assert len(results) == 1


def test_a_home_that_cannot_be_written_is_answered_too(
    study: StudyConfig, runtime: Runtime, measures: Callable[..., list[Shape]]
) -> None:
    measured = measures(HALF)
    read_only = runtime.model_copy(update={"home": "/proc/nowhere"})
    assert [choose(study, read_only).precision for _ in range(2)] == ["bfloat16", "bfloat16"]
    assert len(measured) == 2


def test_without_measuring_what_was_measured_counts_or_else_the_processors_instructions(
    study: StudyConfig, runtime: Runtime, measures: Callable[..., list[Shape]]
) -> None:
    measured = measures(FULL)
    assert choose(study, runtime, measuring=False).precision == "bfloat16"
    assert measured == [] and not Path(runtime.home).exists()
    choose(study, runtime)
    assert choose(study, runtime, measuring=False).precision == "float32" and len(measured) == 1


def test_a_study_is_told_what_it_got_and_why(
    study: StudyConfig, runtime: Runtime, measures: Callable[..., list[Shape]]
) -> None:
    measures(FULL)
    lines: list[str] = []
    got = settled(study, runtime, lines.append)
    assert (got.pretrain.precision, got.finetune.precision) == ("float32", "float32")
    (line,) = lines
    assert line.startswith("Precision: float32: a step takes 0.50 times as long in float32 as in bfloat16")
    assert "hidden 16, 1 layer, vocabulary 300, threads 1" in line
    assert str(Choice("bfloat16", "why")) == "Precision: bfloat16: why."


def test_the_miniature_is_of_the_largest_architecture_and_takes_time_in_both(
    study: StudyConfig, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(miniature, "ENOUGH", 0)
    deep = study.model_copy(
        update={
            "architectures": (*study.architectures, study.architectures[0].model_copy(update={"num_hidden_layers": 9}))
        }
    )
    shape = precision.shape_of(deep, runtime.data_root)
    assert shape.architecture.num_hidden_layers == LAYERS
    found = miniature.seconds_in_each(shape)
    assert {*found} == {"float32", "bfloat16"}
    assert min(found.values()) > 0
